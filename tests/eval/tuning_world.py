"""Settings of a planted defence: one idles, one hides from transferred attacks, one holds, one says always the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scipy.linalg import hadamard
from torch import Tensor

from configs.load import check_config, plain
from configs.schema import EvaluateConfig, TuneConfig
from configs.tuning import grid_of
from data.source import SelectedImages
from eval.plan import Plan
from eval.rows import Subject
from eval.tasks.classification import ClassificationTask
from eval.tuning import Search
from modules import noise
from modules.defenses.base import Defense, Undefended
from modules.encoders.base import ImageEncoder
from tests.eval.toy_world import COUNT, LOUD, SIZE, Reader, pictures, toy_plan

HALF = COUNT // 2


class Hides(Defense):
    """Reads the loud patterns, and shouts when it sees others: whoever looks at the bare encoder never makes those."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        self.reader = Reader("loud")
        rows = torch.tensor(hadamard(SIZE * SIZE)[40:46], dtype=torch.float32).repeat(1, 3)
        self.register_buffer("others", rows / rows.shape[1] / LOUD)

    others: Tensor

    def encode_image(self, x: Tensor) -> Tensor:
        return self.reader.encode_image(x) + 20 * ((x - 0.5).flatten(1) @ self.others.T) @ self.reader.turn


class Holds(Defense):
    """Reads the loud patterns, and misreads some images, attacked or not, which it knows by name."""

    random = True

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        self.reader = Reader("loud")

    def encode_image(self, x: Tensor) -> Tensor:
        z, scope = self.reader.encode_image(x), noise.scope()
        wrong = torch.zeros(len(x), dtype=torch.bool) if scope is None else scope.keys % 8 == 0
        return torch.where(wrong[:, None], -z, z)


class Constant(Defense):
    """Says the same about every image: nothing can change its mind."""

    def purify_latent(self, z: Tensor) -> Tensor:
        return torch.ones_like(z).cumsum(dim=1) + 0 * z


PLANTED: dict[int, type[Defense]] = {1: Undefended, 2: Hides, 3: Holds, 4: Constant}


def toy_config(*planted: int, keep: int = 2, **changes: Any) -> TuneConfig:
    """A tuning over some of the planted settings, each an angle of a rotation in the recipe."""
    attacks = {"apgd": {"steps": 15}}
    said = {
        "model": {"name": "tiny"},
        "threat": {"eps": 8 / 255},
        "data": {"shards": "toy"},
        "defense": {"name": "clipure_cos"},
        "search": {"rotation_deg": list(planted)},
        "rungs": {"sieve": {"attacks": attacks, "keep": keep}, "final": {"attacks": attacks}},
        "report": {"attacks": attacks},
        "max_clean_drop": 0.2,
        "batch_size": HALF,
    }
    return check_config("tune", {**said, **changes})


def toy_search(config: TuneConfig, encoder: Reader, state: Path | None = None) -> Search:
    """A search whose settings are the planted defences; the first half of the pictures chooses, the second judges."""

    def build(wanted: EvaluateConfig) -> Plan:
        tuning = wanted.tasks["toy"].split == "tune"
        plan = toy_plan(encoder, Undefended(encoder))
        half = SelectedImages(pictures(), range(HALF) if tuning else range(HALF, COUNT))

        def defend(name: str, inner: ImageEncoder, task: Any) -> Defense:
            return PLANTED[int(wanted.defenses[name].get("rotation_deg", 1))](inner).freeze()

        task = replace(ClassificationTask.of(plan.tasks[0]), source=half)
        apgd = {"apgd": plan.attacks["apgd"]}
        return replace(
            plan, config=wanted, tasks=[task], defend=defend, attacks=apgd, hash=str(sorted(wanted.defenses))
        )

    return Search(config, build, Subject("toy", "toy"), state, quiet=True)


def names(config: TuneConfig) -> list[str]:
    """The settings of a tuning, in order."""
    return [candidate.name for candidate in grid_of(plain(config)).candidates]
