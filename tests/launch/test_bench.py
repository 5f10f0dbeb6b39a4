"""Benchmarks run their cases in turn and say what they found."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from configs.files import ConfigError
from launch.bench.command import run_bench
from launch.bench.race import flops, race


def test_cases_are_timed_in_turn_after_a_warm_up() -> None:
    order: list[str] = []
    cases = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timings = race(cases, rounds=3, quiet=True)
    assert order == ["a", "b"] * 4
    assert set(timings) == {"a", "b"}


def test_a_slower_case_shows_as_slower_and_the_median_lies_between_the_ends() -> None:
    timings = race({"short": lambda: time.sleep(0.002), "long": lambda: time.sleep(0.02)}, rounds=3, quiet=True)
    assert timings["long"].median > 3 * timings["short"].median
    assert all(timing.low <= timing.median <= timing.high for timing in timings.values())


def test_operations_are_those_of_the_matrix_products() -> None:
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert flops(lambda: a @ b) == 2 * 3 * 5 * 7


def test_the_benchmark_of_defences_finds_that_a_prompt_read_once_is_cheaper(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    run_bench(["defences"], quick=True, json_file=file, accelerator="cpu")
    found = json.loads(file.read_text())
    ratios = found["defences"]
    assert ratios["clipure_diff_cache_operations"] >= 10  # of 81 tokens, 3 are computed anew: 27
    assert ratios["clipure_diff_cache_ratio"] > 1.5  # the small stand-in; what it is at full size, the command says
    assert ratios["clipure_diff_overhead"] > ratios["clipure_diff_sphere_overhead"] > 1
    assert found["about"]["quick"] is True and ratios["seconds"]["bare"]["median"] > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_the_benchmark_of_readers_finds_ours_no_slower_and_starting_at_once(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    run_bench(["loader"], quick=True, json_file=file, accelerator="cpu")
    found = json.loads(file.read_text())["loader"]
    assert found["webdataset_over_indexed"] > 0.6  # the machine may be busy; alone it is above 1
    assert found["start_webdataset_over_indexed"] > 0.5 and found["indexed_images"] > 50
    assert found["seconds"]["bytes"]["median"] < found["seconds"]["indexed"]["median"]


def test_an_unknown_benchmark_is_refused_with_the_choice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^unknown benchmark 'defence'; choose of: defences, loader"):
        run_bench(["defence"], quick=True, json_file=tmp_path / "no.json", accelerator="cpu")
    assert not (tmp_path / "no.json").exists()
