"""Output never ends a command."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from launch.streams import prepare_streams
from tests.launch.typed import typed

PRINT_MUCH = """
import os, sys
from pathlib import Path
from launch.streams import lost_output, prepare_streams
prepare_streams()
for i in range(20000):
    print("a line of some length", i)
Path(sys.argv[1]).write_text("done", encoding="utf-8")
sys.stderr.write(lost_output())
"""


def shell(line: str, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """A small program that prints much, in a shell's pipeline; ``$0`` is Python, ``$1`` the program."""
    command = ["bash", "-c", line, sys.executable, PRINT_MUCH, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, timeout=60)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_a_table_is_printed_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert typed(monkeypatch, "data", "catalog", "fare/cifar10") == 0
    out.seek(0)
    assert "cifar10" in out.read()


def test_what_an_encoding_lacks_is_replaced_readably(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    prepare_streams()
    print("ℓ∞ – café … 4×4 ┏━┓ 数", flush=True)
    assert raw.getvalue().decode() == "linf - cafe ... 4x4 +-+ ?\n"


def test_a_path_that_is_no_text_is_printed_as_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    prepare_streams()
    print(os.fsdecode(b"caf\xe9"), flush=True)
    assert raw.getvalue() == b"caf\xe9\n"


@pytest.mark.parametrize(
    ("said", "becomes"),
    [("1", "20"), ("120", "120"), ("99999999999", "1000"), ("²", None), ("junk", None), ("-3", None), ("", None)],
)
def test_a_width_that_no_terminal_has_is_corrected(
    said: str, becomes: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", said)
    prepare_streams()
    assert os.environ.get("COLUMNS") == becomes


def test_a_reader_that_leaves_does_not_end_the_work(tmp_path) -> None:
    ended = shell('"$0" -c "$1" "$2" | head -1', tmp_path / "done")
    assert ended.stdout == "a line of some length 0\n"
    assert ended.stderr == ""
    assert (tmp_path / "done").is_file()


def test_unbuffered_output_remains_unbuffered() -> None:
    code = "import os; from launch.streams import prepare_streams; prepare_streams(); print('seen'); os._exit(0)"
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **how}).stdout
        for how in ({"PYTHONUNBUFFERED": "1"}, {"PYTHONUNBUFFERED": ""})
    ]
    assert said == ["seen\n", ""]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_leave_files_alone(closed: str, tmp_path) -> None:
    ended = shell(f'"$0" -c "$1" "$2" {closed}', tmp_path / "done")
    assert ended.returncode == 0 and ended.stderr == ""
    assert (tmp_path / "done").read_text(encoding="utf-8") == "done"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")  # noqa: PTH110
def test_a_full_disk_behind_the_output_is_reported_after_the_work(tmp_path) -> None:
    ended = shell('"$0" -c "$1" "$2" > /dev/full', tmp_path / "done")
    assert ended.stderr == "No space left on device"
    assert (tmp_path / "done").is_file()
