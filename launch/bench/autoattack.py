"""AutoAttack beside the reference package: the same model, images, radius and settings."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from configs.files import ConfigError
from data.sample import digits
from launch.bench.models import as_made
from launch.bench.race import race
from launch.bench.record import Record
from modules.attacks.auto import AutoAttack
from modules.attacks.base import Search
from modules.encoders import load_clip
from modules.perturb.threat import Threat
from modules.zero_shot.classifier import ZeroShotClassifier
from modules.zero_shot.head import zero_shot_head

THREAT = Threat("linf", 1.5 / 255)
"""A radius at which some images of the embedded model stand through all of it, and so cost the most."""


def autoattack(*, quick: bool, device: torch.device, rounds: int) -> Record:
    """Time of the standard version against that of ``pyautoattack``, and the images on which they differ.

    Args:
        quick: few images, steps and queries.
        device: where.
        rounds: not used beyond three; one run is minutes.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        import pyautoattack  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError:
        raise ConfigError("bench autoattack compares with pyautoattack; pip install 'robustclip[test]'") from None
    images, steps, queries = (8, 5, 50) if quick else (32, 100, 5000)
    model, x, y = _victim(images, device)
    plain = as_made(copy.deepcopy(model))
    record = Record(
        "autoattack",
        f"version standard on {images} handwritten digits and the embedded model's ten prompts, linf 1.5/255, {steps} "
        f"steps, {queries:,} queries: seconds of pyautoattack over ours",
    )
    standing: dict[str, Tensor] = {}

    def ours() -> None:
        attack = AutoAttack(THREAT, steps=steps, queries=queries)
        standing["ours"] = _right(model, attack.on(Search(model, x, y, THREAT, compact=True)), y)

    def theirs() -> None:
        standing["theirs"] = _right(model, _reference(plain, x, y, steps, queries), y)

    timings = race({"ours": ours, "theirs": theirs}, rounds=min(rounds, 1 if quick else 2), title="autoattack")
    record.timings |= timings
    record.ratios["time_ratio"] = timings["theirs"].median / timings["ours"].median
    record.goals["time_ratio"] = "at least 2"
    for name, right in standing.items():
        record.facts[f"standing_{name}"] = float(right.float().mean())
    record.facts["flags_that_differ"] = float((standing["ours"] != standing["theirs"]).float().mean())
    return record


def _victim(images: int, device: torch.device) -> tuple[ZeroShotClassifier, Tensor, Tensor]:
    clip = load_clip("tiny").to(device)
    source = digits("test", images)
    samples = [source[i] for i in range(len(source))]
    assert clip.text is not None
    head = zero_shot_head(clip.text, source.classes, source.templates, logit_scale=clip.logit_scale)
    x, y = torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
    return ZeroShotClassifier(clip.image.freeze(), head).to(device).eval(), x.to(device), y.to(device)


def _reference(model: ZeroShotClassifier, x: Tensor, y: Tensor, steps: int, queries: int) -> Tensor:
    """The images that the reference package ends with; it seeds the global generator, which is put back."""
    from pyautoattack import AutoAttack as Theirs

    auto: Any = Theirs(model, norm="Linf", eps=THREAT.eps, version="standard", seed=0)
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
