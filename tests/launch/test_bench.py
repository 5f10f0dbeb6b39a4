"""Benchmarks run their cases in turn and say what they found."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from configs.files import ConfigError
from launch.bench.command import run_bench
from launch.bench.growth import exponent
from launch.bench.race import peak_bytes, race


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


def test_the_benchmark_of_defences_finds_that_a_prompt_read_once_is_cheaper(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    run_bench(["defences"], quick=True, json_file=file, accelerator="cpu")
    found = json.loads(file.read_text())
    ratios = found["defences"]
    assert ratios["clipure_diff_cache_operations"] >= 10  # of 81 tokens, 3 are computed anew: 27
    assert ratios["clipure_diff_cache_ratio"] > 1.5  # the small stand-in; what it is at full size, the command says
    assert ratios["clipure_diff_overhead"] > ratios["clipure_diff_sphere_overhead"] > 1
    assert ratios["ttc_all_gated_overhead"] > 1.4 * ratios["ttc_none_gated_overhead"] > 1.4
    assert found["about"]["quick"] is True and ratios["seconds"]["bare"]["median"] > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_the_benchmark_of_readers_finds_ours_no_slower_and_starting_at_once(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    run_bench(["loader"], quick=True, json_file=file, accelerator="cpu")
    found = json.loads(file.read_text())["loader"]
    assert found["webdataset_over_indexed"] > 0.6  # the machine may be busy; alone it is above 1
    assert found["start_webdataset_over_indexed"] > 0.5 and found["indexed_images"] > 50
    assert found["seconds"]["bytes"]["median"] < found["seconds"]["indexed"]["median"]


def found_by(name: str, tmp_path: Path) -> dict[str, float]:
    file = tmp_path / "bench.json"
    run_bench([name], quick=True, json_file=file, accelerator="cpu")
    return json.loads(file.read_text())[name]


@pytest.mark.slow
def test_a_step_of_ours_ends_where_the_reference_recipes_does_with_less_work_and_memory(tmp_path: Path) -> None:
    found = found_by("train-step", tmp_path)
    assert 25 / 24 < found["tiny_operations_ratio"] < 1.4  # one pass of 25, and what the last block does not compute
    assert found["tiny_memory_ratio"] <= 0.6
    assert found["tiny_weights_apart"] < 0.05  # signs of gradients turn where they are zero up to rounding
    assert found["tiny_images_per_s_ratio"] > 0.7  # the machine may be busy


@pytest.mark.slow
def test_autoattack_leaves_the_images_standing_that_the_reference_package_does(tmp_path: Path) -> None:
    found = found_by("autoattack", tmp_path)
    assert 0 < found["most_stand_standing_ours"] < 1 and found["most_stand_flags_that_differ"] <= 1 / 8
    assert found["most_stand_passes_ratio"] > 1 and found["time_ratio"] == found["most_stand_time_ratio"]


@pytest.mark.slow
def test_nothing_grows_faster_than_it_must(tmp_path: Path) -> None:
    found = found_by("growth", tmp_path)
    assert found["operations_by_images"] <= 1.05 and found["operations_by_radii"] <= 1.05
    assert abs(found["bytes_by_images"]) < 0.05 and found["operations_by_ranks"] < 0.15
    assert found["bytes_by_batch"] <= 1.01 and found["operations_by_classes"] < 0.1


@pytest.mark.slow
def test_help_and_faults_of_a_recipe_are_told_before_the_large_libraries_are_there(tmp_path: Path) -> None:
    found = found_by("start-up", tmp_path)
    imported = {name: value for name, value in found.items() if "_imports_" in name}
    assert [name for name, value in imported.items() if value] == ["wrong_recipe_imports_torch"]
    assert found["help_seconds"] < 3


@pytest.mark.slow
def test_the_prior_is_timed_alone_where_no_peer_is_named(tmp_path: Path) -> None:
    found = found_by("prior", tmp_path)
    assert set(found) == {"seconds", "shown"} and set(found["seconds"]) == {"small_train_ours", "small_sample_ours"}  # pyright: ignore[reportArgumentType]


def test_a_peer_that_is_not_there_is_told_in_a_line() -> None:
    with pytest.raises(ConfigError, match="^--peer nowhere/python: no such file; name the Python of an environment"):
        run_bench(["prior"], quick=True, json_file=None, accelerator="cpu", peer="nowhere/python")


def test_a_peer_without_the_library_says_so_and_leaves_no_process() -> None:
    with pytest.raises(ConfigError, match=r"its process ended with 1: dalle2-pytorch cannot be imported there"):
        run_bench(["prior"], quick=True, json_file=None, accelerator="cpu", peer=sys.executable)


def test_the_exponent_of_a_power_is_found() -> None:
    assert exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
    assert exponent([16, 64], [5, 5]) == pytest.approx(0)


def test_the_peak_is_that_of_tensors_held_at_a_time() -> None:
    def work() -> float:
        a = torch.ones(250_000)
        b = a + a
        del a
        return float((b * b).sum())

    assert 2_000_000 <= peak_bytes(work, torch.device("cpu")) < 2_010_000


def test_an_unknown_benchmark_is_refused_with_the_choice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^unknown benchmark 'defence'; choose of: train-step, autoattack, defences"):
        run_bench(["defence"], quick=True, json_file=tmp_path / "no.json", accelerator="cpu")
    assert not (tmp_path / "no.json").exists()
