"""``robustclip invert``: what an encoder takes for a text or an image, beside what its base takes for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.files import ConfigError, write_atomically
from launch.commands.words import typed
from launch.encoders import Opened, numbered, open_encoder, picture, preparation

if TYPE_CHECKING:
    from torch import Tensor

    from eval.pages.inversion import Wanted
    from modules.perceptual.inversion import Inversion, Start

PICTURES = 6  # on the way


@dataclass(frozen=True)
class Wish:
    """What to look for, and from where.

    Attributes:
        texts: as they were typed.
        images: files.
        template: with ``{}`` for the text; None takes the embedded set's for the embedded model, else a photo of it.
        start: ``grey``, ``noise`` or a file.
    """

    texts: tuple[str, ...]
    images: tuple[Path, ...]
    template: str | None
    start: str

    def check(self) -> None:
        """Refuse what needs no encoder to be seen wrong.

        Raises:
            ConfigError: nothing to look for, an empty text, or a missing file.
        """
        if not self.texts and not self.images:
            raise ConfigError("nothing to look for; say --text three, or --image picture.png")
        if any(not text.strip() for text in self.texts):
            raise ConfigError("--text '' is empty; say what to find an image of")
        starts = [] if self.start in ("grey", "noise") else [Path(self.start)]
        for path in [*self.images, *starts]:
            if not path.is_file():
                hint = "; --start takes grey, noise or a file" if path in starts else ""
                raise ConfigError(f"no image at {path}{hint}")


@dataclass(frozen=True)
class Against:
    """What an encoder is compared with.

    Attributes:
        base: a model's name or a checkpoint; None takes what a checkpoint was fine-tuned from.
        pretrained: tag of its weights.
        defense: in front of the encoder that is asked about, and of no other.
    """

    base: str | None = None
    pretrained: str | None = None
    defense: str = ""


def run_invert(source: str, wish: Wish, search: Mapping[str, Any], against: Against, *, seed: int, out: Path) -> None:
    """Invert, and write ``index.html``, ``inversion.json`` and the pictures to a folder.

    Args:
        source: a checkpoint's file or a model's name.
        wish: what to look for.
        search: settings of ``Inverting``; lengths that are not said grow with the images.
        against: what to compare with.
        seed: of every random number.
        out: folder.

    Raises:
        ConfigError: what is wished for cannot be had.
        ValueError: an encoder cannot be loaded.
    """
    wish.check()
    from data.folder_lock import is_empty, lock_folder

    if out.exists() and (not out.is_dir() or (not is_empty(out) and not (out / "inversion.json").is_file())):
        raise ConfigError(f"{out} holds other files; name a new folder with --out")
    from eval.pages.inversion import build_gallery, how_told
    from modules.perceptual.inversion import Inverting

    Inverting(**search)  # faults before weights are read
    lock = lock_folder(out)
    opened = _encoders(source, against)
    how = Inverting.at(opened[0].clip.image.image_size, **search)
    wanted = _wanted(wish, opened[0])
    names = numbered([one.name for one in opened])
    seen = [(name, _inverted(one, wanted, wish, how, seed)) for name, one in zip(names, opened, strict=True)]
    record = _record(wish, wanted, seen, opened, asdict(how) | {"start": wish.start, "seed": seed})
    _write(out, wanted, seen, record)
    facts = {"images": record["preparation"], "templates": "; ".join(record["templates"])} if wish.texts else {}
    facts |= {"command": typed(), "stand_in": any(one.clip.name == "tiny" for one in opened)}
    page = build_gallery(out, wanted, seen, facts, how_told(how, wish.start, seed))
    for found in record["found"]:
        print(f"{found['target']}  {found['encoder']}  cosine {found['cosine']:.3f}  distance {found['distance']:.1f}")
    print(f"gallery: {page}")
    lock.release()


def _encoders(source: str, against: Against) -> list[Opened]:
    """The one that is asked about, and before it what it is compared with, where there is something."""
    from modules.weights_file import read_content

    said = Path(source).is_file() and read_content(Path(source))[1].get("base")
    model = None if said or not against.base or Path(against.base).exists() else against.base
    tag = None if said else against.pretrained  # a file that says its base says the tag too
    asked = open_encoder(source, model=model, pretrained=tag, defense=against.defense)
    if against.base is not None:
        return [open_encoder(against.base, pretrained=against.pretrained), asked]
    if asked.base:
        name, tag = asked.base
        return [open_encoder(name, pretrained=tag, image_size=asked.clip.image.image_size), asked]
    return [open_encoder(source, pretrained=against.pretrained), asked] if against.defense else [asked]


def _templates(wish: Wish, opened: Opened) -> list[str]:
    if wish.template is not None:
        return [wish.template]
    if opened.clip.name == "tiny":
        from data.sample import TEMPLATES

        return list(TEMPLATES)
    return ["a photo of {}"]


def _wanted(wish: Wish, opened: Opened) -> list[Wanted]:
    from eval.pages.inversion import Wanted

    texts = [Wanted("text", text) for text in wish.texts]
    return [*texts, *(Wanted("image", path.name, picture(path, opened.clip)) for path in wish.images)]


def _inverted(opened: Opened, wanted: Sequence[Wanted], wish: Wish, how: Any, seed: int) -> Inversion:
    """What one encoder comes to, for all targets at once."""
    from eval.progress import Ticker
    from modules.perceptual.inversion import invert

    targets = _targets(opened, wanted, wish)
    start: Start | Tensor = "noise" if wish.start == "noise" else "grey"
    if wish.start not in ("grey", "noise"):
        start = picture(Path(wish.start), opened.clip)[None]
    with Ticker(f"invert {opened.name}", how.steps) as ticker:
        return invert(
            opened.encoder,
            targets,
            how,
            start=start,
            snapshots=PICTURES,
            seed=seed,
            on_step=lambda: ticker.advance(1),
        )


def _targets(opened: Opened, wanted: Sequence[Wanted], wish: Wish) -> Tensor:
    """[B, D] what the encoder's own text and image towers say of the targets."""
    import torch

    from modules.perceptual.metric import unit
    from modules.zero_shot.head import class_embeddings

    parts = []
    if wish.texts:
        if opened.clip.text is None:
            raise ConfigError(f"{opened.name} has no text tower; look for images with --image")
        parts.append(class_embeddings(opened.clip.text, wish.texts, _templates(wish, opened), ties=True))
    images = [target.x for target in wanted if target.x is not None]
    if images:
        with torch.no_grad():
            parts.append(unit(opened.encoder(torch.stack(images))))
    return torch.cat([part.to(next(opened.encoder.parameters()).device) for part in parts])


def _record(
    wish: Wish, wanted: Sequence[Wanted], seen: Sequence[tuple[str, Inversion]], opened: Sequence[Opened], how: Any
) -> dict[str, Any]:
    return {
        "settings": how,
        "templates": _templates(wish, opened[0]) if wish.texts else [],
        "preparation": preparation(opened[0].clip),
        "found": [
            {
                "target": target.name,
                "kind": target.kind,
                "encoder": name,
                "cosine": round(float(found.cosine[number]), 6),
                "distance": round(float(found.distance[number]), 6),
                "file": f"{number:02d}-{place}.png",
            }
            for number, target in enumerate(wanted)
            for place, (name, found) in enumerate(seen)
        ],
    }


def _write(out: Path, wanted: Sequence[Wanted], seen: Sequence[tuple[str, Inversion]], record: dict[str, Any]) -> None:
    """The finished pictures and the record."""
    import base64

    from eval.pages.picture import data_uri

    for number in range(len(wanted)):
        for place, (_, found) in enumerate(seen):
            uri = data_uri(found.x[number].float().cpu().numpy())
            write_atomically(out / f"{number:02d}-{place}.png", base64.b64decode(uri.partition(",")[2]))
    write_atomically(out / "inversion.json", json.dumps(record, indent=1))
