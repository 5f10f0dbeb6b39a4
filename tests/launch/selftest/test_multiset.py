"""Which samples a training consumed, epoch by epoch."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from launch.selftest.multiset import epoch_faults, share_faults, stream
from train.samples import COLUMNS, samples_file

KEYS = list("abcdef")
ORDER = list("cafebd" + "fedcba")  # two epochs


def write(run: Path, worlds: list[int], order: list[str] = ORDER) -> Path:
    """Batches of four, the next one read by so many processes as ``worlds`` says."""
    lines: dict[int, list[tuple[object, ...]]] = {}
    for step, world in enumerate(worlds, 1):
        batch = order[(step - 1) * 4 : step * 4]
        share = 4 // world
        for rank in range(world):
            lines.setdefault(rank, [])
            lines[rank] += [(step, key, "0.5", "00") for key in batch[rank * share : (rank + 1) * share]]
    for rank, rows in lines.items():
        with samples_file(run, rank).open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    return run


@pytest.mark.parametrize("worlds", [[1, 1, 1], [2, 1, 4], [4, 4, 4], [2, 2, 2]])
def test_the_order_is_that_of_one_process_whatever_their_numbers_were(worlds: list[int], tmp_path: Path) -> None:
    run = write(tmp_path, worlds)
    assert [key for _, key in stream(run)] == ORDER
    assert epoch_faults(run, KEYS) == ([], 2)


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ("cafebb" + "fedcba", ["epoch 1: 1 lost, such as d", "epoch 1: 1 read twice, such as b"]),
        ("cafebd" + "fedcbx", ["epoch 2: 1 lost, such as a", "epoch 2: 1 of no known sample, such as x"]),
        ("cafebd" + "feff", ["epoch 2: 1 read twice, such as f"]),  # which has not ended
    ],
)
def test_a_sample_that_was_lost_or_read_twice_is_found(order: str, told: list[str], tmp_path: Path) -> None:
    assert epoch_faults(write(tmp_path, [2, 2, 2], list(order)), KEYS)[0] == told


def test_a_process_that_read_less_than_another_is_found(tmp_path: Path) -> None:
    run = write(tmp_path, [2, 2, 2])
    assert share_faults(run) == []
    lines = samples_file(run, 1).read_text().splitlines()
    samples_file(run, 1).write_text("\n".join(lines[:-1]) + "\n")
    assert share_faults(run) == ["step 3: [2, 1] samples"]
