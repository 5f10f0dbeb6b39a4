"""``robustclip data index``, ``check`` and ``stats``, as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data.make import make_from_sample
from launch.data_stats import show_statistics
from tests.launch.typed import typed

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("ROBUSTCLIP_CACHE", str(tmp_path / "cache"))

    def run(*words: str) -> tuple[int, str, str]:
        code = typed(monkeypatch, "data", *words)
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


def test_statistics_show_a_strangers_names_as_mere_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_from_sample("digits", tmp_path / "set", per_shard=300)
    names = ["<script>alert(1)</script>", "\x1b[31mred", "=cmd()", "[bold]x[/bold]", "a\x07b", *"56789"]
    (tmp_path / "set" / "classnames.txt").write_text("".join(f"{name}\n" for name in names))
    told = {"workers": 0, "cache_gib": None, "cache_dir": None}
    show_statistics(str(tmp_path / "set"), "tune", as_json=False, **told)
    table = capsys.readouterr().out
    assert "\x1b" not in table and "\x07" not in table and "[bold]x[/bold]" in table
    show_statistics(str(tmp_path / "set"), "tune", as_json=True, **told)
    text = capsys.readouterr().out
    assert "\x1b" not in text and set(json.loads(text)["classes"]) == set(names)


def test_statistics_of_the_embedded_set_are_those_of_its_shards(capsys: pytest.CaptureFixture[str]) -> None:
    show_statistics("digits", "test", workers=0, as_json=True, cache_gib=None, cache_dir=None)
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["captions"], found["formats"]) == (300, 300, {"PNG": 300})
    assert sum(found["classes"].values()) == 300 and found["sizes"] == {"32 x 32": 300}
