"""Paths on the command line begin at home where they say so."""

from __future__ import annotations

import pytest

from tests.launch.typed import typed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate", "~/x.pt", "checkpoint_tiny"], "no checkpoint at /home/me/x.pt"),
        (["evaluate", "tiny", "~/r.yaml"], "no recipe at /home/me/r.yaml"),
        (["evaluate", "tiny", "checkpoint_tiny", "model.checkpoint=~/x.pt"], "no checkpoint at /home/me/x.pt"),
        (["model", "inspect", "~/x.pt"], "nothing at /home/me/x.pt"),
        (["report", "~/run"], "no run folder at /home/me/run"),
        (["report", "--out=~/out", "~/run"], "no run folder at /home/me/run"),
    ],
)
def test_a_tilde_is_expanded_in_every_path(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert typed(monkeypatch, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
