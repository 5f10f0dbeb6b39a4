"""When a run is killed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.files import write_atomically
from launch.selftest.moments import Moment, Pace, Watch, moments, wait_for

PACE = Pace(0.02, 0.01, 0.01)


def test_of_fifty_half_are_in_saving_and_some_hit_one_process() -> None:
    found = moments(50, seed=3, processes=2)
    kinds = Counter(moment.kind for moment in found)
    assert kinds == {"save": 25, "train": 17, "start": 8}
    victims = Counter(moment.victim for moment in found if moment.victim is not None)
    assert set(victims) == {0, 1} and 10 <= victims.total() <= 20
    assert all(moment.victim is None for moment in found if moment.kind == "start")
    assert all(0 <= moment.share < 1 and 1 <= moment.events <= 3 for moment in found)


def test_the_seed_decides_and_one_process_has_no_others() -> None:
    assert moments(9, seed=1, processes=2) == moments(9, seed=1, processes=2) != moments(9, seed=2, processes=2)
    assert {moment.victim for moment in moments(20, seed=0, processes=1)} == {None}


def test_steps_and_saves_are_seen_by_what_a_run_writes(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    write_atomically(tmp_path / "metrics.csv", "step\n1\n")
    watch, temporary = Watch(tmp_path), tmp_path / "checkpoints" / ".step=000002.ckpt.tmp"
    seen = []
    for act in (lambda: write_atomically(tmp_path / "metrics.csv", "step\n1\n2\n"), temporary.touch, temporary.unlink):
        act()
        watch.look()
        seen.append((watch.steps, watch.saves, watch.saving()))
    assert seen == [(1, 0, ""), (1, 1, temporary.name), (1, 1, "")]


class Acting:
    """A life that does something whenever it is looked at, and then ends."""

    def __init__(self, *acts: Any) -> None:
        self.acts = list(acts)

    def running(self) -> bool:
        if self.acts:
            self.acts.pop(0)()
            return True
        return False


@pytest.mark.parametrize(("kind", "events", "came"), [("save", 1, True), ("save", 2, False), ("train", 1, False)])
def test_a_moment_comes_after_its_events_or_not_at_all(kind: Any, events: int, came: bool, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    temporary = tmp_path / "checkpoints" / ".step=000002.ckpt.tmp"
    life: Any = Acting(temporary.touch, *([lambda: None] * 50))
    assert wait_for(Moment(kind, events, 0.0, None), life, tmp_path, PACE) is came


def test_a_moment_of_the_start_waits_for_its_share_only(tmp_path: Path) -> None:
    life: Any = SimpleNamespace(running=lambda: True)
    assert wait_for(Moment("start", 1, 0.5, None), life, tmp_path, PACE)
