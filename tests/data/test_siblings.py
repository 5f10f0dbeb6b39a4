"""A file of the user's that hides one of our folders is named in one line; ours hide nothing of the user's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(folder: Path, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Python in a folder, with our root last on the path, as an editable install has it."""
    places = os.pathsep.join(filter(None, (path, str(ROOT))))
    environment = {**os.environ, "PYTHONPATH": places}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    return ended.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(("hidden", "package"), [("data.py", "modules"), ("modules/__init__.py", "configs")])
def test_a_script_learns_which_file_is_in_the_way(hidden: str, package: str, tmp_path: Path) -> None:
    file = tmp_path / hidden
    file.parent.mkdir(exist_ok=True)
    file.write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "script.py").write_text(f"import {package}\n", encoding="utf-8")
    ended = run(tmp_path, "script.py")
    name = Path(hidden).parts[0].removesuffix(".py")
    assert last_line(ended).startswith(f"ImportError: {file} hides robustclip's own folder '{name}' ({ROOT / name})")


def test_a_module_that_was_imported_before_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "data.py").touch()
    code = "import data, sys; sys.path.pop(0); import modules"
    assert f"{tmp_path / 'data.py'} hides" in last_line(run(tmp_path, "-c", code))


@pytest.mark.parametrize("how", ["-m", "PYTHONPATH"])
def test_the_command_ends_with_one_line(how: str, tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "__init__.py").touch()
    if how == "-m":
        ended = run(tmp_path, "-m", "launch.cli", "--help")
    else:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "robustclip").write_text("from launch.cli import main\nmain()\n", encoding="utf-8")
        ended = run(ROOT.parent, str(tmp_path / "bin" / "robustclip"), "--help", path=str(tmp_path))
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith(f"robustclip: {tmp_path / 'eval' / '__init__.py'} hides robustclip's own folder")


def test_what_hides_nothing_that_is_used_is_in_nobodys_way(tmp_path: Path) -> None:
    for name in ("train.py", "eval.py", "configs.py"):  # packages above the one that is imported
        (tmp_path / name).write_text("mine = True\n", encoding="utf-8")
    (tmp_path / "data").mkdir()  # a folder of images
    ended = run(tmp_path, "-c", "import modules, data.siblings, train, eval, configs; assert train.mine and eval.mine")
    assert ended.returncode == 0, ended.stderr
