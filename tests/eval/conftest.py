"""Evaluations of the embedded model that take a second."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from configs.load import load_config
from eval.plan import Plan, build_plan
from modules.encoders.clip import CLIP
from modules.encoders.tiny import load_tiny

SMALL = (
    "tasks.digits.limit=20",
    "defenses={none: {}, random_noise: {}, clipure_cos: {}}",
    "attacks={apgd: {steps: 3}}",
    "curve={}",
    "examples=0",
    "eot_draws=2",
    "batch_size=20",
)


@pytest.fixture(scope="session")
def clip() -> CLIP:
    """The embedded model, loaded once; whoever changes it takes a copy."""
    return load_tiny()


@pytest.fixture
def planned(clip: CLIP) -> Callable[..., Plan]:
    """(overrides) -> the plan of a small evaluation."""
    return lambda *overrides: build_plan(load_config("evaluate", "digits", [*SMALL, *overrides]), clip)
