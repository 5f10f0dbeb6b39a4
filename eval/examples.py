"""Pictures of what an attack and a defence did, for the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from configs.files import write_atomically
from data.batches import ImageBatch
from eval.outcomes import CLEAN, Cell
from eval.tasks.base import Ranking
from modules.defenses.base import Defense

SHARPNESS = 4  # colour patches along a side of a blurred picture
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
        tensors: ``clean``, ``adversarial`` and, where the defence moves pixels, ``purified``, each [N, 3, H, W]; of a
            search also what is found first, ``before`` and ``after`` the attack, each [N, M, 3, H, W].
        marks: of a search, for each of ``before`` and ``after`` N times M words; None of other tasks.
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
    marks: dict[str, list[list[str]]] | None = None


def take_examples(
    batch: ImageBatch,
    adversarial: Mapping[Cell, Tensor],
    defenses: Mapping[str, Defense],
    predict: Callable[[Defense, Tensor], Tensor],
    named: Callable[[], AbstractContextManager[None]],
    example: Callable[..., Example],
    *,
    ranked: Callable[[Defense, Tensor], Ranking | None] = lambda defense, x: None,
    hidden: Sequence[bool] = (),
) -> list[Example]:
    """For each defence, the images of the attack and view that fooled it most often.

    Args:
        batch: N images.
        adversarial: per cell, [N, 3, H, W].
        defenses: by name.
        predict: (defence, images) -> [N] classes.
        named: the noise scope in which defences are scored.
        example: ``Example`` with what is the same for all of them filled in.
        ranked: (defence, images) -> what each of them finds first, where it looks for anything.
        hidden: N, whose pictures are blurred and not to be had otherwise; none where left out.
    """
    examples = []
    for name, defense in defenses.items():
        own = {cell: x for cell, x in adversarial.items() if cell.defense == name and cell.attack != CLEAN}
        if not own:
            continue
        predictions = {cell: predict(defense, x) for cell, x in own.items()}
        worst = _most_wrong(predictions, batch.y)
        after = predictions[worst].tolist()
        found = {"before": ranked(defense, batch.x), "after": ranked(defense, own[worst])}
        tensors = _pictures(defense, batch.x, own[worst], named)
        tensors |= {when: ranking.x.float().cpu() for when, ranking in found.items() if ranking is not None}
        shown = example(
            defense=name,
            attack=worst.attack,
            view=worst.view,
            eps=worst.eps,
            label=batch.y.tolist(),
            prediction_clean=predict(defense, batch.x).tolist(),
            prediction_adversarial=after,
            prediction_purified=after,
            tensors={name: blurred(value, hidden) for name, value in tensors.items()},
            marks={when: ranking.marks for when, ranking in found.items() if ranking is not None} or None,
        )
        examples.append(shown if "purified" in shown.tensors else replace(shown, prediction_purified=None))
    return examples


def _most_wrong(predictions: Mapping[Cell, Tensor], y: Tensor) -> Cell:
    return min(predictions, key=lambda cell: int((predictions[cell] == y).sum()))


def _pictures(
    defense: Defense, x: Tensor, x_adv: Tensor, named: Callable[[], AbstractContextManager[None]]
) -> dict[str, Tensor]:
    x, x_adv = x[:, :3], x_adv[:, :3]  # where several images of a sample are changed, the first one is shown
    tensors = {"clean": x, "adversarial": x_adv}
    with torch.no_grad(), named():
        moved = defense.purify_pixels(x_adv)
    if not torch.equal(moved, x_adv):
        tensors["purified"] = moved
    return {name: value.detach().cpu().float().contiguous().clone() for name, value in tensors.items()}


def blurred(x: Tensor, hidden: Sequence[bool]) -> Tensor:
    """The pictures x [N, ..., 3, H, W] with those that are hidden brought down to a few patches of colour."""
    if not any(hidden):
        return x
    x, rows = x.clone(), torch.tensor(hidden)
    few = x[rows]
    patches = F.adaptive_avg_pool2d(few.flatten(0, -4), SHARPNESS)
    x[rows] = F.interpolate(patches, size=few.shape[-2:], mode="bilinear").reshape(few.shape)
    return x


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
