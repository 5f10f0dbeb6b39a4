"""Processes that share an evaluation find what one would have found, and end together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from eval.outcomes import Outcomes
from eval.team import Team
from tests.eval.crew import launch

COMMON = (
    "curve={}",
    "device=cpu",
    "score_draws=2",
    "attacks={pgd: {steps: 1, step_size: 0.01}}",
    "views=[transfer, eot]",
    "eot_draws=1",
)
MANY = (*COMMON, "tasks.digits.limit=101", "batch_size=16", "defenses={none: {}, random_noise: {}}", "examples=2")
GATED = (
    *COMMON,
    "tasks.digits.limit=20",
    "batch_size=3",
    "defenses={none: {}, ttc: {calibrate: true}}",
    "examples=1",
    "views=[transfer]",
)
EARLY = (*COMMON, "tasks.digits.limit=101", "batch_size=4", "defenses={none: {}}", "examples=0", "stop_width=0.62")
FEW = (*COMMON, "tasks.digits.limit=20", "batch_size=4", "defenses={random_noise: {}}", "examples=0")
distributed = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all jobs of three processes."""
    folder = tmp_path_factory.mktemp("crew")

    def job(name: str, ranks: int, settings: tuple[str, ...], **planted: Any) -> dict[str, Any]:
        return {"ranks": ranks, "settings": settings, "out": str(folder / name), "planted": planted}

    launch(
        [
            *(
                job(f"{name}-{ranks}", ranks, settings)
                for name, settings in (("many", MANY), ("gated", GATED), ("early", EARLY))
                for ranks in (1, 2, 3)
            ),
            job("few", 1, FEW),
            job("broken", 3, FEW, what="error", rank=1, batch=1),
            job("broken", 2, FEW),
            job("left", 3, FEW, what="asked", rank=1, batch=1),
            job("left", 2, FEW),
            job("apart", 2, FEW, what="apart"),
            job("gone", 3, FEW, what="gone", rank=2, batch=0),
        ],
        folder,
        codes=(0, 0, 9),
    )
    return folder


def found(job: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((job / f"found-{rank}.json").read_text())


class TestThreeProcesses:
    pytestmark = distributed

    @pytest.mark.parametrize("name", ["many", "gated", "early"])
    @pytest.mark.parametrize("ranks", [2, 3])
    def test_rows_outcomes_notes_and_examples_are_those_of_one(self, name: str, ranks: int, jobs: Path) -> None:
        one, together = found(jobs / f"{name}-1"), found(jobs / f"{name}-{ranks}")
        assert one["rows"]
        assert together == one
        for rank in range(1, ranks):
            assert found(jobs / f"{name}-{ranks}", rank)["rows"] == one["rows"]
        alone, shared = (load_file(jobs / f"{name}-{n}" / "examples.safetensors") for n in (1, ranks))
        assert alone.keys() == shared.keys()
        assert all(torch.equal(alone[key], shared[key]) for key in alone)

    def test_each_of_101_images_is_judged_once(self, jobs: Path) -> None:
        keys = found(jobs / "many-3")["outcomes"]["digits"]["keys"]
        assert len(keys) == len(set(keys)) == 101
        assert {row["n"] for row in found(jobs / "many-3")["rows"]} == {101}

    def test_a_gate_that_every_process_sets_is_noted_once(self, jobs: Path) -> None:
        assert [note["title"] for note in found(jobs / "gated-3")["notes"]] == ["CLIP: the gate of ttc"]

    def test_all_stop_where_one_would_have_stopped(self, jobs: Path) -> None:
        n = {row["n"] for row in found(jobs / "early-3")["rows"]}
        assert n < set(range(4, 101, 4)), "it never stopped early"

    def test_an_error_on_one_ends_all_with_its_line(self, jobs: Path) -> None:
        assert found(jobs / "broken", 2) == {"error": "ValueError: the third image is a hat"}

    def test_another_number_goes_on_with_what_was_left(self, jobs: Path) -> None:
        assert found(jobs / "broken", 0) == found(jobs / "few")
        states = [json.loads(f.read_text()) for f in sorted((jobs / "broken" / "state").iterdir())]
        assert [len(state["keys"]) for state in states] == [4] * 5

    def test_one_that_is_told_to_end_ends_all_and_they_go_on_where_they_were(self, jobs: Path) -> None:
        assert found(jobs / "left", 2) == {"error": "Unfinished: "}
        assert found(jobs / "left", 0) == found(jobs / "few")

    def test_without_a_shared_disk_every_process_knows_all_that_is_finished(self, jobs: Path) -> None:
        assert found(jobs / "apart") == found(jobs / "few")
        for rank in (0, 1):
            files = sorted((jobs / "apart" / f"state-{rank}").iterdir())
            parts = [Outcomes.from_json(json.loads(file.read_text())) for file in files]
            assert sum((part.keys for part in parts), []) == found(jobs / "few")["outcomes"]["digits"]["keys"]

    def test_one_that_is_gone_ends_the_others(self, jobs: Path) -> None:
        for rank in (0, 1):
            assert "ConnectionError: another process of this job is gone" in found(jobs / "gone", rank)["error"]


def test_one_alone_hears_itself_and_its_own_error() -> None:
    team = Team.of_all()
    assert (team.rank, team.size) == (0, 1)
    assert team.gather({"a": 1}) == [{"a": 1}]
    with pytest.raises(ZeroDivisionError), team.one_end():
        _ = 1 / 0
