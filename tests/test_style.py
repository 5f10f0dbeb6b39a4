"""The code is in the house's style."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def ruff(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("ruff", reason="ruff is a test extra")
    return subprocess.run(
        [sys.executable, "-m", "ruff", *arguments], cwd=ROOT, capture_output=True, text=True, input=text
    )


def test_ruff_finds_nothing() -> None:
    found = ruff("check", "--no-cache", ".")
    assert found.returncode == 0, found.stdout


def test_files_are_formatted() -> None:
    found = ruff("format", "--no-cache", "--check", ".")
    assert found.returncode == 0, found.stdout


def test_a_fault_would_be_found() -> None:
    assert ruff("check", "--no-cache", "--stdin-filename", "modules/x.py", "-", text="import os\n").returncode == 1
