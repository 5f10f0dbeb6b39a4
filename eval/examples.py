"""Pictures of what an attack and a defence did, for the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from configs.files import write_atomically
from data.batches import ImageBatch
from eval.outcomes import CLEAN, Cell
from modules.defenses.base import Defense

FILE = "examples.safetensors"


@dataclass
class Example:
    """A few images of one defence under one attack.

    Attributes:
        encoder: display name.
        defense: name in the recipe.
        attack: name in the recipe.
        view: whose gradient was followed.
        norm: of the ball.
        eps: its radius in [0, 1] pixels.
        classes: K names.
        label: [N] right classes.
        prediction_clean: [N] on the clean images, behind the defence.
        prediction_adversarial: [N] on the adversarial images, behind the defence.
        tensors: ``clean``, ``adversarial`` and, where the defence moves pixels, ``purified``, each [N, 3, H, W].
    """

    encoder: str
    defense: str
    attack: str
    view: str
    norm: str
    eps: float
    classes: list[str]
    label: list[int]
    prediction_clean: list[int]
    prediction_adversarial: list[int]
    prediction_purified: list[int] | None
    tensors: dict[str, Tensor]


def take_examples(
    batch: ImageBatch,
    adversarial: Mapping[Cell, Tensor],
    defenses: Mapping[str, Defense],
    predict: Callable[[Defense, Tensor], Tensor],
    named: Callable[[], AbstractContextManager[None]],
    *,
    encoder: str,
    classes: Sequence[str],
    norm: str,
) -> list[Example]:
    """For each defence, the images of the attack and view that fooled it most often.

    Args:
        batch: N images.
        adversarial: per cell, [N, 3, H, W].
        defenses: by name.
        predict: (defence, images) -> [N] classes.
        named: the noise scope in which defences are scored.
        encoder: display name.
        classes: K names.
        norm: of the ball.
    """
    examples = []
    for name, defense in defenses.items():
        cells = [cell for cell in adversarial if cell.defense == name and cell.attack != CLEAN]
        if not cells:
            continue
        predictions = {cell: predict(defense, adversarial[cell]) for cell in cells}
        worst = min(cells, key=lambda cell: int((predictions[cell] == batch.y).sum()))
        x_adv = adversarial[worst]
        tensors = {"clean": batch.x, "adversarial": x_adv}
        with torch.no_grad(), named():
            moved = defense.purify_pixels(x_adv)
        purified = not torch.equal(moved, x_adv)
        if purified:
            tensors["purified"] = moved
        after = predictions[worst].tolist()
        examples.append(
            Example(
                encoder=encoder,
                defense=name,
                attack=worst.attack,
                view=worst.view,
                norm=norm,
                eps=worst.eps,
                classes=list(classes),
                label=batch.y.tolist(),
                prediction_clean=predict(defense, batch.x).tolist(),
                prediction_adversarial=after,
                prediction_purified=after if purified else None,
                tensors={k: v.detach().cpu().float().contiguous().clone() for k, v in tensors.items()},
            )
        )
    return examples


def write_examples(folder: Path, examples: Sequence[Example]) -> None:
    """Write ``examples.json`` and the pictures beside it."""
    tensors, entries = {}, []
    for number, example in enumerate(examples):
        prefix = f"{number}"
        tensors |= {f"{prefix}/{name}": value for name, value in example.tensors.items()}
        entry = {k: v for k, v in asdict(example).items() if k != "tensors"}
        entries.append({**entry, "file": FILE, "prefix": prefix})
    write_atomically(folder / FILE, save(tensors))
    write_atomically(folder / "examples.json", json.dumps(entries))
