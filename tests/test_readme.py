"""The README tells the truth: its commands are those of CI, its names exist, its example runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def command(name: str) -> str:
    """The shell command under a marker of the README, found independently of .ci/run."""
    found = re.search(rf"<!-- {name} -->\n```bash\n(.*?)\n```", README, re.DOTALL)
    assert found, f"no command is marked {name}"
    return found[1]


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_ci_runs_the_readmes_commands(name: str) -> None:
    script = (ROOT / ".ci" / "run").read_text()
    function = re.search(r"^readme_command\(\) .*$", script, re.MULTILINE)
    assert function and f"readme_command {name})" in script
    shown = subprocess.run(
        ["bash", "-c", f"{function[0]}\nreadme_command {name}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == command(name)


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_each_command_is_one_line_that_prepares_everything(name: str) -> None:
    text = command(name)
    assert len(text.splitlines()) == 1
    assert "venv .venv" in text and "pip install" in text and "-c .ci/constraints.txt" in text


def test_every_named_file_exists() -> None:
    for name in re.findall(r"`((?:modules|configs|train|eval|data|tests|launch|\.ci|\.github)/[\w./*-]+)`", README):
        assert list(ROOT.glob(name)), f"the README names {name}"


def test_every_named_recipe_exists() -> None:
    named = re.findall(r"robustclip (finetune|perceptual|prior|embed|evaluate \S+) ([a-z][\w]+)(?: |\n)", README)
    assert len(named) >= 4
    for kind, recipe in named:
        assert (ROOT / "configs" / "recipes" / kind.split()[0] / f"{recipe}.yaml").is_file(), recipe


def test_the_python_examples_run() -> None:
    examples = re.findall(r"```python\n(.*?)\n```", README, re.DOTALL)
    assert len(examples) == 3
    names: dict[str, Any] = {"x": torch.rand(2, 3, 32, 32), "y": torch.tensor([0, 1])}
    for example in examples:
        exec(example, names)
    assert names["x_adv"].shape == names["x"].shape
    assert names["card"].headline.n == 2
    assert names["distance"].shape == (2,)


def test_nothing_speaks_of_the_machine_it_was_written_on() -> None:
    for file in [*ROOT.glob("*.md"), *(ROOT / ".github").glob("*.md"), ROOT / ".ci" / "run"]:
        assert not re.search(r"/(home|root|work|tmp)/", file.read_text()), file.name
