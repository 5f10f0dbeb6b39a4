"""Files of text are UTF-8 on every machine: nothing is opened in the encoding of the user's locale."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("modules", "data", "configs", "eval", "train", "launch")
BINARY = {"Image", "tarfile", "os"}  # whose ``open`` knows no encoding


def unspecified(source: str) -> Iterator[int]:
    """Lines that open a file of text and say neither encoding nor what to do with what does not decode."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        said = {keyword.arg for keyword in call.keywords}
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        owner = getattr(getattr(call.func, "value", None), "id", "")
        if name in ("open", "read_text", "write_text") and owner not in BINARY and not said & {"encoding", "errors"}:
            count = len(call.args)
            is_text = (count == 1) if name == "write_text" else (count == 0) if name == "read_text" else _mode(call)
            if is_text and not (name == "write_text" and owner == ""):
                yield call.lineno


def _mode(call: ast.Call) -> bool:
    """Whether a call of ``Path.open`` or ``open`` names a mode of text."""
    values = [*call.args[-1:], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [value.value for value in values if isinstance(value, ast.Constant)]
    return any(re.fullmatch("[rwax]t?[+]?", str(mode)) for mode in modes) or "newline" in {k.arg for k in call.keywords}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_file_names_its_encoding(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        lines = list(unspecified(file.read_text(encoding="utf-8")))
        assert not lines, f"{file.relative_to(ROOT)}, lines {lines}: say encoding='utf-8'"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("path.open('w')", True),
        ("open(name, 'a')", True),
        ("path.open(newline='')", True),
        ("path.open('rb')", False),
        ("path.read_text(encoding='utf-8')", False),
        ("Image.open(file)", False),
    ],
)
def test_a_missing_encoding_would_be_found(source: str, found: bool) -> None:
    assert bool(list(unspecified(source))) is found
