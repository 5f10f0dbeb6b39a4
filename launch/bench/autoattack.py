"""AutoAttack beside the reference package: the same model, images, radius and settings."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from configs.files import ConfigError
from data.sample import digits
from eval.speed import Record
from launch.bench.models import as_made
from launch.bench.race import race
from modules.attacks.auto import AutoAttack
from modules.attacks.base import Search
from modules.encoders import load_clip
from modules.perturb.threat import Threat
from modules.zero_shot.classifier import ZeroShotClassifier
from modules.zero_shot.head import zero_shot_head

WHO = ("theirs", "ours")
RADII = {"most_stand": 1.5, "few_stand": 3, "none_stands": 4}
"""By name, in 255ths: an image that stands to the end costs the most, and nobody can spare it a pass."""


def autoattack(*, quick: bool, device: torch.device, rounds: int) -> Record:
    """Time of the standard version against that of ``pyautoattack``, and the images on which they differ.

    Args:
        quick: few images, steps and queries, and one radius.
        device: where.
        rounds: not used beyond two; one run is minutes.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        import pyautoattack  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError:
        raise ConfigError("bench autoattack compares with pyautoattack; pip install 'robustclip[test]'") from None
    images, steps, queries = (8, 5, 50) if quick else (32, 100, 5000)
    record = Record(
        "autoattack",
        f"version standard on {images} handwritten digits and the embedded model's ten prompts, linf at some radii, "
        f"{steps} steps, {queries:,} queries: seconds of pyautoattack, on open_clip's own layers, over ours; and its "
        "passes through the model, forwards and backwards, over ours",
    )
    for name in ["most_stand"] if quick else RADII:
        race_one = _Race(Threat("linf", RADII[name] / 255), images, steps, queries, device)
        timings = race(
            {"theirs": race_one.theirs, "ours": race_one.ours},
            rounds=min(rounds, 1 if quick else 2),
            title=f"autoattack, {name.replace('_', ' ')}",
        )
        record.timings |= {f"{name}_{who}": timing for who, timing in timings.items()}
        _tell(record, name, race_one)
    seconds = {who: sum(t.median for name, t in record.timings.items() if name.endswith(who)) for who in WHO}
    record.ratios = {"time_ratio": seconds["theirs"] / seconds["ours"], **record.ratios}
    record.goals["time_ratio"] = "at least 2"
    return record


def _tell(record: Record, name: str, race: _Race) -> None:
    theirs, ours = (record.timings[f"{name}_{who}"].median for who in WHO)
    record.ratios[f"{name}_time_ratio"] = theirs / ours
    record.ratios[f"{name}_passes_ratio"] = race.passes["theirs"] / race.passes["ours"]
    for who, right in race.standing.items():
        record.facts[f"{name}_standing_{who}"] = float(right.float().mean())
    differ = race.standing["ours"] != race.standing["theirs"]
    record.facts[f"{name}_flags_that_differ"] = float(differ.float().mean())
    record.goals[f"{name}_flags_that_differ"] = "0, but for images on the edge: starts are drawn differently"


class _Race:
    """Both attacks on the same images and weights; notes which images stand, and the passes of the last run."""

    def __init__(self, threat: Threat, images: int, steps: int, queries: int, device: torch.device) -> None:
        self.threat, self.steps, self.queries = threat, steps, queries
        self.model, self.x, self.y = _victim(images, device)
        self.plain = as_made(copy.deepcopy(self.model))
        self.standing: dict[str, Tensor] = {}
        self.passes: dict[str, int] = dict.fromkeys(WHO, 0)

    def ours(self) -> None:
        """Our attack, which leaves out what has fallen."""
        attack = AutoAttack(self.threat, steps=self.steps, queries=self.queries)
        with self._counted("ours", self.model):
            x_adv = attack.on(Search(self.model, self.x, self.y, self.threat, compact=True))
        self.standing["ours"] = _right(self.model, x_adv, self.y)

    def theirs(self) -> None:
        """The reference package's."""
        with self._counted("theirs", self.plain):
            x_adv = _reference(self.plain, self.threat, self.x, self.y, self.steps, self.queries)
        self.standing["theirs"] = _right(self.plain, x_adv, self.y)

    @contextmanager
    def _counted(self, who: str, model: ZeroShotClassifier) -> Iterator[None]:
        self.passes[who] = 0

        def seen(_: object, inputs: tuple[Tensor]) -> None:
            self.passes[who] += len(inputs[0]) * (2 if inputs[0].requires_grad else 1)

        hook = model.register_forward_pre_hook(seen)
        try:
            yield
        finally:
            hook.remove()


def _victim(images: int, device: torch.device) -> tuple[ZeroShotClassifier, Tensor, Tensor]:
    clip = load_clip("tiny").to(device)
    source = digits("test", images)
    samples = [source[i] for i in range(len(source))]
    assert clip.text is not None
    head = zero_shot_head(clip.text, source.classes, source.templates, logit_scale=clip.logit_scale)
    x, y = torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
    return ZeroShotClassifier(clip.image.freeze(), head).to(device).eval(), x.to(device), y.to(device)


def _reference(model: ZeroShotClassifier, threat: Threat, x: Tensor, y: Tensor, steps: int, queries: int) -> Tensor:
    """The images that the reference package ends with; it seeds the global generator, which is put back."""
    from pyautoattack import AutoAttack as Theirs

    auto: Any = Theirs(model, norm="Linf", eps=threat.eps, version="standard", seed=0)
    auto.verbose = False
    members = (auto.apgd, auto.apgd_targeted, auto.fab)
    for member in members:
        member.n_iter = steps
    for member in members[:2]:  # what its constructor works out from the number of steps
        member.n_iter_orig = steps
        for part, least in (("n_iter_2", 0.22), ("n_iter_min", 0.06), ("size_decr", 0.03)):
            setattr(member, part, max(int(least * steps), 1))
    auto.square.n_queries = queries
    with torch.random.fork_rng():
        return auto.run_standard_evaluation(x, y, batch_size=len(x))[0]


@torch.no_grad()
def _right(model: ZeroShotClassifier, x: Tensor, y: Tensor) -> Tensor:
    return model(x).argmax(dim=1) == y
