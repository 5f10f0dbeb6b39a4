"""``robustclip data index`` and ``robustclip data check``, as typed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.make import make_from_sample
from launch.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("ROBUSTCLIP_CACHE", str(tmp_path / "cache"))

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["robustclip", "data", *words])
        try:
            main()
            code = 0
        except SystemExit as leave:
            code = int(leave.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    make_from_sample("digits", tmp_path / "numbers", per_shard=100)
    return tmp_path / "numbers"


def test_indexes_are_made_once_and_again_where_they_do_not_fit(run: Run, numbers: Path) -> None:
    code, out, _ = run("index", str(numbers), "--split", "test")
    assert code == 0 and "built: 3" in out
    assert sorted(path.name for path in (numbers / "test").glob("*.index")) == [f"{i}.tar.index" for i in range(3)]
    assert "read: 3" in run("index", str(numbers), "--split", "test")[1]
    (numbers / "test/1.tar.index").write_bytes(b"")
    assert "read: 2, rebuilt: 1" in run("index", str(numbers), "--split", "test")[1]


def test_a_check_leaves_with_one_when_something_is_bad(run: Run, numbers: Path) -> None:
    code, out, _ = run("check", str(numbers), "--split", "test", "--json")
    assert code == 0 and json.loads(out)["sound"] is True and json.loads(out)["good"] == 300
    path = numbers / "test/1.tar"
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT")
    content[at : at + 40] = bytes(40)
    path.write_bytes(content)
    code, out, _ = run("check", str(numbers), "--split", "test", "--json")
    found = json.loads(out)
    assert code == 1 and found["bad"] == {"not an image": 1} and found["faults"] == {"not as its index.json says": 1}
    code, out, _ = run("check", str(numbers), "--split", "test", "--workers", "1")
    assert code == 1 and "not an image: shard" in out.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("index", "digits"), "'digits' is embedded and has no shards"),
        (("check", "nowhere.tar"), "no file 'nowhere.tar'"),
        (("check", "http://169.254.169.254/{0..9}.tar"), "is refused: link-local"),
        (("index", "x.tar", "--cache", "0"), "holds nothing"),
    ],
)
def test_a_mistake_is_one_line_and_code_two(words: tuple[str, ...], said: str, run: Run) -> None:
    code, _, err = run(*words)
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1
