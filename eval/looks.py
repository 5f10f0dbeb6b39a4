"""Looking into an encoder as a part of its evaluation: images that it takes for some names, one file a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from configs.files import ConfigError, write_atomically
from configs.schema import InversionConfig
from eval.progress import Ticker
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIP
from modules.perceptual.inversion import Inverting, Start, invert
from modules.zero_shot.head import class_embeddings

if TYPE_CHECKING:
    from eval.rows import Subject

FOLDER = "looks"
SHOWN = 5  # pictures on the way


@dataclass(frozen=True)
class Wish:
    """What to look for in an encoder.

    Attributes:
        texts: B names.
        targets: [B, D] what the text tower says of them.
        defenses: in front of the encoder, by their names; ``none`` is the bare one.
        how: the search.
        start: ``grey`` or ``noise``.
        seed: of every random number.
    """

    texts: tuple[str, ...]
    targets: Tensor
    defenses: tuple[str, ...]
    how: Inverting
    start: Start
    seed: int

    @classmethod
    def of(cls, config: InversionConfig | None, clip: CLIP, seed: int) -> Wish | None:
        """What a recipe asks for; None where it asks for nothing."""
        if config is None or not config.texts:
            return None
        assert clip.text is not None
        said = {key: value for key, value in asdict(config).items() if key in _SETTINGS and value is not None}
        targets = class_embeddings(clip.text, config.texts, config.templates, ties=True)
        how = Inverting.at(clip.image.image_size, **said)
        return cls(tuple(config.texts), targets, tuple(config.defenses), how, config.start, seed)


_SETTINGS = tuple(Inverting.__dataclass_fields__)


@dataclass
class Look:
    """What an encoder was seen to take for the names.

    Attributes:
        encoder: display name.
        step: of the training.
        defense: in front of it.
        texts: B names.
        steps: S, how many the search had taken when a picture was kept; the last ones are the result.
        pictures: [S, B, 3, H, W] in [0, 1].
        cosine: B, of the results' embeddings to the names'.
        distance: B, Euclidean, from the start.
        settings: of the search.
    """

    encoder: str
    step: int
    defense: str
    texts: list[str]
    steps: list[int]
    pictures: Tensor
    cosine: list[float]
    distance: list[float]
    settings: dict[str, Any]


def look(wish: Wish, subject: Subject, encoder_of: Callable[[str], ImageEncoder], *, quiet: bool = False) -> list[Look]:
    """What an encoder takes for the names, bare or behind defences, from the same start and with the same looks.

    Args:
        wish: what to look for.
        subject: how the encoder is called.
        encoder_of: (name of a defence) -> the encoder behind it.
        quiet: show no progress.
    """
    found = []
    for name in wish.defenses:
        encoder = encoder_of(name)
        targets = wish.targets.to(next(encoder.parameters()).device)
        with Ticker(f"look into {subject.encoder}", wish.how.steps, quiet=quiet) as ticker:
            seen = invert(
                encoder,
                targets,
                wish.how,
                start=wish.start,
                snapshots=SHOWN,
                seed=wish.seed,
                on_step=lambda ticker=ticker: ticker.advance(1),
            )
        found.append(
            Look(
                *(subject.encoder, subject.step, name, list(wish.texts), [steps for steps, _ in seen.snapshots]),
                torch.stack([x.float() for _, x in seen.snapshots]),
                *(seen.cosine.tolist(), seen.distance.tolist()),
                {**asdict(wish.how), "start": wish.start, "seed": wish.seed},
            )
        )
    return found


def write_looks(folder: Path, looks: list[Look]) -> None:
    """Write the looks of a checkpoint to ``looks/step=…`` under a folder, pictures and numbers in one file."""
    if not looks:
        return
    told = [{key: value for key, value in vars(one).items() if key != "pictures"} for one in looks]
    pictures = {str(number): (one.pictures * 255).round().byte() for number, one in enumerate(looks)}
    file = folder / FOLDER / f"step={looks[0].step:06d}.safetensors"
    write_atomically(file, save(pictures, {"looks": json.dumps(told)}))


def read_looks(folder: Path) -> list[Look]:
    """The looks in a run's folder, by step; none where nobody looked.

    Raises:
        ConfigError: a file is damaged.
    """
    found = []
    for file in sorted((folder / FOLDER).glob("step=*.safetensors")):
        try:
            with safe_open(file, "pt") as content:
                told = json.loads((content.metadata() or {})["looks"])
                found += [
                    Look(**{**one, "pictures": content.get_tensor(str(number)).float() / 255})
                    for number, one in enumerate(told)
                ]
            if any(len(one.texts) != one.pictures.shape[1] or one.pictures.dim() != 5 for one in found):
                raise ValueError("pictures and names do not fit")
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise ConfigError(f"{file} holds no looks: {error}") from error
    return found


def copy_looks(source: Path, out: Path) -> None:
    """Put the looks of one folder beside those of another."""
    for file in sorted((source / FOLDER).glob("step=*.safetensors")):
        write_atomically(out / FOLDER / file.name, file.read_bytes())
