"""Trainings of the embedded model that take a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.load import load_config
from train.runs import Run, open_run

SMALL = (
    "optimizer.max_steps=4",
    "optimizer.warmup_steps=1",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
    "data.batch_size=8",
)
EVALUATION = """
model: {name: tiny}
threat: {norm: linf, eps: "${px:4}"}
tasks: {digits: {shards: digits, limit: 8}}
defenses: {none: {}, random_noise: {}}
attacks: {pgd: {steps: 2, step_size: "${px:1}"}}
views: [transfer]
examples: 2
batch_size: 4
device: cpu
"""

Recipe = Callable[..., Any]


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An override that evaluates every checkpoint a little."""
    path = tmp_path_factory.mktemp("recipes") / "little.yaml"
    path.write_text(EVALUATION)
    return f"evaluation={{recipe: {path}}}"


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """(overrides, of) -> the config of a small fine-tuning that evaluates nothing."""

    def config(*overrides: str, of: str = "fare_tiny_eps4") -> Any:
        return load_config("finetune", of, [*SMALL, "attack.steps=2", "evaluation=null", *overrides])

    return config


@pytest.fixture
def run(recipe: Recipe, tmp_path: Path) -> Callable[..., Run]:
    """(overrides) -> the run of that fine-tuning in this test's folder, or in another one."""

    def opened(*overrides: str, of: str = "fare_tiny_eps4", out: Path | None = None) -> Run:
        return open_run("small", recipe(*overrides, of=of), out or tmp_path / "run")

    return opened
