"""``robustclip selftest``, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.launch.typed import typed


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Any]:
    """The command in an empty folder: exit code, standard output, lines of standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        code = typed(monkeypatch, "selftest", *arguments)
        told = capsys.readouterr()
        return code, told.out, told.err.splitlines()

    return run


@pytest.mark.parametrize("test", ["resume", "distributed"])
def test_each_teaches_with_an_example(test: str, here: Any) -> None:
    code, out, _ = here(test, "--help")
    assert code == 0 and f"Example: robustclip selftest {test} --quick" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("resume", "fare_tiny"), "no training has the recipe 'fare_tiny'"),
        (("resume", "--kills", "0"), "--kills and --processes must be at least 1"),
        (("resume", "--processes", "3"), "--processes 3 cannot share data.batch_size=16 equally"),
        (("resume", "--plant", "roses"), "unknown fault 'roses'; choose one of: broken-batch, forgotten-draws"),
        (("distributed", "--plant", "roses"), "unknown fault 'roses'"),
        (("resume", "--strategy", "magic"), "trainer.strategy: 'magic': unknown; choose one of: auto, ddp"),
        (("resume", "--out", "full"), "full is there already; name a new folder with --out"),
        (("distributed", "--out", "full"), "full is there already; name a new folder with --out"),
    ],
)
def test_a_mistake_costs_a_line_and_exit_code_2_and_leaves_nothing(
    words: tuple[str, ...], told: str, here: Any, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    code, out, err = here(*words)
    assert (code, out, len(err)) == (2, "", 1) and told in err[0]
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_a_recipe_of_the_users_survives_and_says_so(here: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    words = ["model: {name: tiny}", 'threat: {norm: linf, eps: "${px:4}"}', "objective: {name: fare}"]
    words += [
        'attack: {name: pgd, steps: 1, step_size: "${px:2}"}',
        "data: {shards: digits, batch_size: 8, workers: 0}",
    ]
    recipe.write_text("\n".join(words))
    code, out, err = here("resume", str(recipe), "trainer.accelerator=cpu", "--quick", "--kills", "2", "--out", "proof")
    found = json.loads((tmp_path / "proof" / "selftest.json").read_text())
    assert code == 0, "\n".join([out, *err])
    assert "all hold" in out and "FAIL" not in out and found["passed"] and found["kills"] == 2
    assert {"goes on unaided", "no orphans", "exported weights", "random numbers", "metrics.csv"} <= {
        check["name"] for check in found["checks"] if check["passed"]
    }
