"""The speed of a training on a clock that the test turns."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from train.perf import Speedometer, peak_memory

FETCH = "[_TrainingEpochLoop].train_dataloader_next"
EVALUATE = "[Callback]EvaluateCheckpoints.on_train_batch_start"
TRAINER: Any = SimpleNamespace(world_size=1, strategy=SimpleNamespace(root_device=torch.device("cpu")))


class Clock:
    """Seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("train.perf.time.perf_counter", found)
    return found


def spend(clock: Clock, seconds: float, inside: AbstractContextManager[Any] | None = None) -> None:
    if inside is None:
        clock.now += seconds
        return
    with inside:
        clock.now += seconds


def step(clock: Clock, speed: Speedometer, *, wait: float, work: float, aside: float = 0.0, samples: int = 8) -> None:
    spend(clock, wait, speed.profile(FETCH))
    if aside:
        spend(clock, aside, speed.profile(EVALUATE))
    speed.count(samples)
    with speed.profile("run_training_batch"):
        spend(clock, work, speed.profile("[Callback]SkipBrokenSteps.on_before_optimizer_step"))


def test_images_a_second_and_the_share_of_waiting(clock: Clock) -> None:
    speed = Speedometer(flops=1e12, peak=10.0)
    for _ in range(4):
        step(clock, speed, wait=0.5, work=1.5)
    found = speed.read(TRAINER)
    assert found["perf/images_per_s"] == pytest.approx(4) and found["perf/data_wait_share"] == pytest.approx(0.25)
    assert found["perf/tflops"] == pytest.approx(4) and found["perf/mfu"] == pytest.approx(0.4)
    step(clock, speed, wait=0.0, work=1.0)
    found = speed.read(TRAINER)
    assert found["perf/images_per_s"] == pytest.approx(8) and found["perf/data_wait_share"] == 0, "since the last line"


def test_time_in_which_checkpoints_are_evaluated_and_saved_does_not_count(clock: Clock) -> None:
    speed = Speedometer()
    spend(clock, 1000)  # models are built
    step(clock, speed, wait=1, work=1, aside=500)
    spend(clock, 300, speed.profile("[Callback]SaveCheckpoints.on_train_batch_end"))
    assert speed.read(TRAINER)["perf/images_per_s"] == pytest.approx(4)


def test_a_clock_that_counted_evaluations_would_be_seen(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.perf._ASIDE", ())
    monkeypatch.setattr("train.perf._is_aside", lambda action: False)
    speed = Speedometer()
    step(clock, speed, wait=1, work=1, aside=500)
    assert speed.read(TRAINER)["perf/images_per_s"] < 0.1


def test_what_is_not_known_is_left_out(clock: Clock) -> None:
    speed = Speedometer(flops=1e12)
    step(clock, speed, wait=0, work=1)
    assert set(speed.read(TRAINER)) == {
        *("perf/images_per_s", "perf/data_wait_share", "perf/memory_gb", "perf/tflops"),
    }
    assert speed.read(TRAINER) == {}, "no step, no speed"


def test_processes_are_as_fast_as_the_slowest(clock: Clock) -> None:
    told: list[torch.Tensor] = []

    def largest(values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        told.append(values)
        return torch.maximum(values, torch.tensor([4.0, 0.5, 7.0]))  # what another process says

    strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=largest)
    speed = Speedometer(flops=1e12)
    step(clock, speed, wait=0.2, work=1.8)
    found = speed.read(SimpleNamespace(world_size=3, strategy=strategy))  # type: ignore[arg-type]
    assert found["perf/images_per_s"] == pytest.approx(3 * 8 / 4) and found["perf/tflops"] == pytest.approx(2)
    assert (found["perf/data_wait_share"], found["perf/memory_gb"]) == (0.5, 7.0) and len(told) == 1


def test_memory_is_the_most_that_there_was() -> None:
    before = peak_memory(torch.device("cpu"))
    assert 1e7 < before < 1e12
    block = torch.ones(int(before / 4 + 5e6))
    assert peak_memory(torch.device("cpu")) >= before
    del block


@pytest.mark.gpu
def test_a_gpus_memory_is_what_was_allocated() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda", 0)
    block = torch.ones(1 << 20, device=device)
    assert peak_memory(device) >= 4 << 20
    del block
