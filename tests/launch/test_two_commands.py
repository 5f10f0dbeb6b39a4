"""Of two commands that write one folder the second changes nothing and says who is at work there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.holder import holder
from tests.launch.typed import typed

COMMANDS = [
    ("finetune", "fare_tiny_eps4", "data.shards=digits"),
    ("prior", "prior_tiny", "data.shards=anywhere"),
    ("pretrain", "tiny"),
    ("perceptual", "mlp_tiny"),
    ("embed", "tiny"),
    ("evaluate", "tiny", "digits", "prior=null", "defenses={none: {}}"),
    ("scorecard", "tiny", "--budget", "quick"),
    ("tune", "ttc_tiny"),
    ("sweep", "fare_tiny_eps4", "seed=0,1"),
    ("robustify", "tiny", "--quick", "--yes"),
    ("demo", "--quick"),
    ("invert", "tiny", "--text", "three"),
    ("data", "make", "digits"),
    ("model", "export", "tiny", "out", "--to", "open-clip"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_the_second_changes_nothing(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    beside = words[0] in ("embed", "data", "model")
    with holder(out, "beside=True" if beside else "") as other:
        before = sorted(tmp_path.rglob("*"))
        code = typed(monkeypatch, *words, *(() if "out" in words else ("--out", out)))
        said = capsys.readouterr().err
        assert f"'{out}' is in use by process {other.pid} on " in said
        assert code == 2 and len(said.splitlines()) == 1
        assert sorted(tmp_path.rglob("*")) == before
