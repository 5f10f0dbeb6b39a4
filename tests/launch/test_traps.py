"""``robustclip traps`` prints verdicts, writes a run folder with a page, and its exit code says whether all is well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.traps import run
from eval.traps.catalog import TRAPS
from eval.traps.record import read_findings
from tests.eval.traps.toy_traps import TOYS
from tests.launch.typed import typed


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(TRAPS):
        monkeypatch.delitem(TRAPS, name)
    for name, trap in TOYS.items():
        monkeypatch.setitem(TRAPS, name, trap)


@pytest.mark.usefixtures("toys")
def test_traps_are_evaluated_into_a_folder_with_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "traps", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "believed  linear (linf 6/255)" in said and "caught    turned" in said
    assert "cleared: 1 of 1 broken ones are caught" in said
    findings = read_findings(tmp_path / "out")
    assert findings is not None and [row.name for row in findings.rows] == ["linear", "turned"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<h2>Traps</h2>" in page and "wrong_gradient" in page
    assert json.loads((tmp_path / "out" / "env.json").read_text())["seconds"] > 0


@pytest.mark.usefixtures("toys")
def test_a_trap_that_is_not_caught_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = run.true_accuracy
    monkeypatch.setattr(run, "true_accuracy", lambda case: real(case) - 0.1)
    assert typed(monkeypatch, "traps", "linear") == 1
    assert "FAILED: 1 honest headlines are more than 2 points above" in capsys.readouterr().out


def test_traps_are_listed_and_an_unknown_name_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "traps", "--list", "router") == 0
    assert "broken  router" in capsys.readouterr().out
    assert typed(monkeypatch, "traps", "rooter") == 2
    assert "unknown trap 'rooter'; did you mean router" in capsys.readouterr().err
