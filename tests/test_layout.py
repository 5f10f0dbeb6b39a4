"""The house stands: the folder names are ours, and imports run downwards only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [{"modules", "data"}, {"configs"}, {"eval"}, {"train"}, {"launch"}]  # ground floor first
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
KEPT_OUT_OF_DATA = {"torchvision", "torchmetrics", "pytorch_lightning", "open_clip", "timm"}


def imported(source: str) -> Iterator[str]:
    """Top-level names that a file's import statements name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)


def upward(folder: str, source: str) -> list[str]:
    """Floors that a file of ``folder`` imports although they are not below it."""
    return [n for n in imported(source) if n in FLOOR and n != folder and FLOOR[n] >= FLOOR[folder]]


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"no code in {folder}"
    return found


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_a_folder_name_resolves_into_this_repository(name: str) -> None:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT), f"{name!r} is shadowed by {spec.origin}"


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_imports_run_downwards(name: str) -> None:
    for file in files(name):
        assert not upward(name, file.read_text()), f"{file.relative_to(ROOT)} imports upwards"


def test_an_upward_import_would_be_seen() -> None:
    assert upward("modules", "from eval.harness import evaluate") == ["eval"]
    assert upward("data", "import modules.noise") == ["modules"]
    assert upward("eval", "from configs.load import plain") == []


def test_data_stays_free_of_heavy_libraries() -> None:
    for file in files("data"):
        heavy = KEPT_OUT_OF_DATA & set(imported(file.read_text()))
        assert not heavy, f"{file.relative_to(ROOT)} imports {heavy}"


def test_only_lightning_rooms_know_lightning() -> None:
    allowed = {"modules/lightning", "eval/callback.py", "train"}
    for folder in FLOOR:
        for file in files(folder):
            place = file.relative_to(ROOT).as_posix()
            if "pytorch_lightning" in set(imported(file.read_text())):
                assert any(place.startswith(room) for room in allowed), f"{place} imports Lightning"


def test_the_top_level_is_the_one_that_was_agreed() -> None:
    agreed = {*FLOOR, "tests", "pyproject.toml", "README.md", "LICENSE"}
    tracked = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    assert tracked - {"runs", "embeddings"} == agreed
