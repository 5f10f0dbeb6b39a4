"""``robustclip distance``: how far apart encoders see images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.files import ConfigError, write_atomically
from eval.tables import plain
from launch.encoders import Opened, numbered, open_encoder, picture, preparation

if TYPE_CHECKING:
    from torch import Tensor

TINY = "tiny"
CAUTION = "the embedded model has only seen handwritten digits; --model names another"


@dataclass(frozen=True)
class Judges:
    """Whose distance it is.

    Attributes:
        model: name, also of the base of checkpoints that do not say it.
        pretrained: tag of its weights.
        checkpoints: several make an ensemble.
        defense: in front of each of them.
    """

    model: str | None = None
    pretrained: str | None = None
    checkpoints: Sequence[Path] = ()
    defense: str = ""

    def open(self) -> list[Opened]:
        """The encoders.

        Raises:
            ValueError: one cannot be loaded.
        """
        if not self.checkpoints:
            return [open_encoder(self.model or TINY, pretrained=self.pretrained, defense=self.defense)]
        return [
            open_encoder(str(path), model=self.model, pretrained=self.pretrained, defense=self.defense)
            for path in self.checkpoints
        ]


def run_distance(images: Sequence[Path], judges: Judges, json_file: Path | None) -> None:
    """Print the distance of two images, or a table of all pairs.

    Args:
        images: files.
        judges: the encoders.
        json_file: where the numbers go too; ``-`` prints them instead of the table.

    Raises:
        ConfigError: fewer than two images, or one is no image.
        ValueError: an encoder cannot be loaded, or they do not look at images of one size.
    """
    if len(images) < 2:
        raise ConfigError("a distance is between two images or more; name another")
    for path in images:
        if not path.is_file():
            raise ConfigError(f"no image at {path}")
    opened = judges.open()
    found = _distances(images, opened).tolist()
    names = [opened_one.name for opened_one in opened]
    record = {
        "encoders": numbered(names),
        "preparation": preparation(opened[0].clip),
        "images": [str(path) for path in images],
        "distances": [[round(value, 6) for value in row] for row in found],
    }
    if json_file is not None and str(json_file) == "-":
        print(json.dumps(record, indent=1))
        return
    if json_file is not None:
        write_atomically(json_file, json.dumps(record, indent=1))
    _show(images, found, record)
    if any(one.clip.name == TINY for one in opened):
        print(CAUTION)


def _distances(images: Sequence[Path], opened: Sequence[Opened]) -> Tensor:
    """[N, N] distances of all pairs."""
    import torch

    from eval.progress import Ticker
    from modules.perceptual import Ensemble, PerceptualMetric

    encoder = opened[0].encoder if len(opened) == 1 else Ensemble([one.encoder for one in opened])
    metric = PerceptualMetric(encoder)
    ways = {preparation(one.clip) for one in opened}
    if len(ways) > 1:
        raise ConfigError(f"these encoders prepare images differently: {'; '.join(sorted(ways))}")
    embedded = []
    with torch.no_grad(), Ticker("embed images", len(images)) as ticker:
        for path in images:
            embedded.append(metric.embed(picture(path, opened[0].clip)[None]))
            ticker.advance(1)
        z = torch.nn.functional.normalize(torch.cat(embedded), dim=-1)
    return (1 - z @ z.T).clamp_min(0).fill_diagonal_(0).cpu()


def _show(images: Sequence[Path], found: list[list[float]], record: dict[str, object]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from data.terminal import terminal

    console = terminal()
    names = [escape(name) for name in numbered([plain(path.name) for path in images])]
    if len(images) == 2:
        print(f"{found[0][1]:.4f}")
    else:
        table = Table("", *names, caption="one minus the cosine: 0 is alike, 2 is opposite", caption_justify="left")
        for name, row in zip(names, found, strict=True):
            table.add_row(name, *(f"{value:.4f}" for value in row))
        console.print(table)
    encoders = record["encoders"]
    assert isinstance(encoders, list)
    print(f"seen by {', '.join(encoders)}; images {record['preparation']}")
