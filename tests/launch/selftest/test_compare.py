"""Two runs, number by number: every planted difference is found, in its own check."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from launch.selftest.compare import differences, same_bits
from train.samples import COLUMNS, samples_file

ROWS = [(step, f"k{step}{i}", repr(step / 7), "ab12") for step in (1, 2) for i in range(2)]


def state() -> dict[str, Any]:
    """What a checkpoint holds, in small."""
    moments = {0: {"step": torch.tensor(2.0), "exp_avg": torch.arange(4.0), "exp_avg_sq": torch.ones(4)}}
    return {
        "state_dict": {"w": torch.arange(6.0).view(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]}],
        "lr_schedulers": [{"last_epoch": 2}],
        "loops": {"fit_loop": {"total": 2}},
        "callbacks": {"SkipBrokenSteps": {"in_a_row": 0}},
        "epoch": 0,
        "global_step": 2,
    }


def write(run: Path, content: dict[str, Any], rows: list[tuple[Any, ...]] = ROWS) -> Path:
    """A run of two processes that ended."""
    (run / "checkpoints").mkdir(parents=True)
    (run / "export").mkdir()
    torch.save(content, run / "checkpoints" / "step=000002.ckpt")
    save_file({"w": content["state_dict"]["w"].contiguous()}, run / "export" / "encoder.safetensors")
    (run / "metrics.csv").write_text("step,loss\n1,0.5\n2,0.25\n")
    for rank in range(2):
        with samples_file(run, rank).open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *(rows if rank else ROWS)])
    return run


def failing(tmp_path: Path, content: dict[str, Any], rows: list[tuple[Any, ...]] = ROWS) -> set[str]:
    """Names of the checks that do not hold."""
    checks = same_bits(write(tmp_path / "one", state()), write(tmp_path / "other", content, rows))
    return {check.name for check in checks if not check.passed}


def test_equal_runs_are_equal_and_it_is_said_what_was_compared(tmp_path: Path) -> None:
    checks = same_bits(write(tmp_path / "one", state()), write(tmp_path / "other", state()))
    assert all(check.passed for check in checks) and len(checks) == 10
    told = {check.name: check.compared for check in checks}
    assert told["weights"].endswith("8 numbers in 2 tensors") and told["samples"].startswith("8 keys")


def _turn(tensor: torch.Tensor) -> None:
    tensor.view(-1)[0] = torch.nextafter(tensor.view(-1)[0], torch.tensor(9.0))


def _set(tree: Any, key: str, value: Any) -> None:
    tree[key] = value


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], set[str]]] = {
    "last bit of a weight": (lambda s: _turn(s["state_dict"]["w"]), {"weights", "exported weights"}),
    "a kind of number": (lambda s: _set(s["state_dict"], "half", torch.ones(2)), {"weights"}),
    "a moment": (lambda s: _turn(s["optimizer_states"][0]["state"][0]["exp_avg_sq"]), {"optimizer"}),
    "a step count": (lambda s: s["optimizer_states"][0]["state"][0]["step"].add_(1), {"optimizer"}),
    "a learning rate": (lambda s: _set(s["optimizer_states"][0]["param_groups"][0], "lr", 0.2), {"optimizer"}),
    "the schedule": (lambda s: _set(s["lr_schedulers"][0], "last_epoch", 3), {"schedule"}),
    "a callback": (lambda s: _set(s["callbacks"]["SkipBrokenSteps"], "in_a_row", 1), {"callbacks"}),
    "a missing part": (lambda s: s.pop("lr_schedulers"), {"schedule"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_any_other_number_of_a_checkpoint_shows(name: str, tmp_path: Path) -> None:
    content, (change, expected) = state(), CHANGES[name]
    change(content)
    assert failing(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (ROWS[:-1], {"samples", "losses", "random numbers"}),  # a sample lost
        ([*ROWS[:3], (2, "k20", *ROWS[3][2:])], {"samples"}),  # one read twice
        ([*ROWS[:3], (*ROWS[3][:2], "0.3", "ab12")], {"losses"}),
        ([*ROWS[:3], (*ROWS[3][:3], "ab13")], {"random numbers"}),  # generators that were not brought back
    ],
)
def test_any_other_sample_loss_or_draw_of_any_process_shows(
    rows: list[tuple[Any, ...]], expected: set[str], tmp_path: Path
) -> None:
    assert failing(tmp_path, state(), rows) == expected


def test_another_character_of_the_table_and_another_file_show(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", state()), write(tmp_path / "other", state())
    (other / "metrics.csv").write_text("step,loss\n1,0.5\n2,0.26\n")
    (other / "checkpoints" / ".step=000001.ckpt.tmp").touch()
    told = {check.name: check.compared for check in same_bits(one, other) if not check.passed}
    assert told == {
        "metrics.csv": "line 3: 2,0.25 and 2,0.26",
        "files": "checkpoints/.step=000001.ckpt.tmp is in one only",
    }


def test_a_run_that_did_not_end_is_not_compared(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", state()), write(tmp_path / "other", state())
    (other / "export" / "encoder.safetensors").unlink()
    (check,) = same_bits(one, other)
    assert (check.passed, check.compared) == (False, "other did not end")


def test_numbers_that_are_none_are_equal_to_themselves() -> None:
    nothing = {"x": torch.tensor([float("nan"), -0.0]), "y": float("nan")}
    assert not list(differences(nothing, {"x": nothing["x"].clone(), "y": float("nan")}))
    assert list(differences(nothing["x"], torch.tensor([float("nan"), 0.0])))
