"""The command line as a person meets it."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from launch import cli, evaluation
from modules.encoders.clip import load_clip
from modules.encoders.tiny import load_tiny
from tests.launch.typed import typed
from tests.waiting import CEILING

COMMANDS = [
    "demo",
    "pretrain",
    "finetune",
    "embed",
    "prior",
    "replay",
    "evaluate",
    "scorecard",
    "tune",
    "report",
    "compare",
    "data make",
    "data stats",
]


def robustclip(*arguments: str, then: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; ``then`` is run after it."""
    code = "\n".join(
        [
            "import sys; from launch.cli import main",
            "try: main()",
            "except SystemExit as leave: code = leave.code",
            "else: code = 0",
            then,
            "sys.exit(code)",
        ]
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=CEILING)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command in this process: exit code and lines of standard error."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        return typed(monkeypatch, *arguments), capsys.readouterr().err.splitlines()

    return run


HEAVY = "{'torch', 'numpy', 'scipy', 'PIL', 'matplotlib', 'open_clip', 'pytorch_lightning', 'sklearn', 'webdataset'}"


def test_help_imports_nothing_that_is_slow_to_import() -> None:
    shown = robustclip("--help", then=f"assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)")
    assert shown.returncode == 0 and "robustclip demo" in shown.stdout, shown.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_with_an_example(command: str, here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["robustclip", *command.split(), "--help"])
        cli.main()
    assert f"Example: robustclip {command.split()[0]}" in capsys.readouterr().out


def test_a_config_error_is_told_before_heavy_libraries_are_imported() -> None:
    heavy = "assert not {'open_clip', 'pytorch_lightning', 'torchvision', 'timm'} & set(sys.modules), 'heavy'"
    ended = robustclip("finetune", "fare_vit_l14_eps4", "threat.eps=-1", "attack.nam=x", then=heavy)
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("robustclip: ") for line in lines)
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["finetune"], "Missing argument"),
        (["finetune", "fare_tiny_eps4", "--frob"], "No such option"),
        (["finetune", "nothing"], "unknown finetune recipe 'nothing'"),
        (["evaluate", "missing.ckpt", "digits", "prior=x"], "no checkpoint at missing.ckpt"),
        (["evaluate", "tinny", "checkpoint_tiny"], "unknown model 'tinny'; near it: tiny"),
        (["evaluate", "tiny", "digits", "prior=missing.safetensors"], "missing.safetensors: no such prior"),
        (["evaluate", "tiny", "checkpoint_tiny", "tasks.digits-small.shards=/nowhere"], "/nowhere"),
        (["finetune", "fare_tiny_eps4", "model.checkpoint=missing.pt"], "no checkpoint at missing.pt"),
        (["prior", "prior_tiny", "data.shards=missing"], "no embeddings in 'missing'"),
        (["data", "make", "missing", "--out", "s"], "no folder 'missing'"),
        (["data", "stats", "missing"], "missing"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(
    arguments: list[str], told: str, here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, lines = here(*arguments)
    assert code == 2 and len(lines) == 1, lines
    assert lines[0].startswith("robustclip: ") and told in lines[0]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted; start the same command again"),
        (OSError(errno.ENOSPC, "No space left on device", "x.ckpt"), 2, "the disk is full: x.ckpt"),
        (RuntimeError("surprise"), 1, "unexpected RuntimeError: surprise; run with --debug"),
        (ValueError("one\ntwo"), 2, "one"),
    ],
)
def test_what_ends_a_run_is_told(
    error: BaseException, code: int, told: str, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(evaluation, "run_report", fail)
    found, lines = here("report", "x")
    assert found == code and told in lines[0]


def test_debug_shows_where_an_error_comes_from() -> None:
    ended = robustclip("--debug", "finetune", "nothing")
    assert ended.returncode != 0 and "Traceback" in ended.stderr and "recipe_path" in ended.stderr


class Malicious:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


def test_a_malicious_checkpoint_is_refused_unread(here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Malicious(tmp_path / "canary")}, tmp_path / "evil.pt")
    code, lines = here("evaluate", "evil.pt", "checkpoint_tiny")
    assert code == 2 and "was not loaded" in lines[0]
    assert not (tmp_path / "canary").exists()


def test_a_foreign_checkpoint_says_what_does_not_fit(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "foreign.pt")
    code, lines = here("evaluate", "foreign.pt", "checkpoint_tiny")
    assert code == 2 and "is not of this model" in lines[0]


def test_a_failed_start_does_not_stand_in_the_way_of_the_next(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert here("evaluate", "tiny", "digits", "prior=missing.safetensors", "--out", "run")[0] == 2
    code, lines = here("evaluate", "tiny", "digits", "prior=other.safetensors", "--out", "run")
    assert code == 2 and "other.safetensors: no such prior" in lines[0]


def pictures(folder: Path) -> Path:
    for number, name in enumerate(["cat", "dog"]):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (40, 32), (90 * number, 50 * i, 10)).save(folder / name / f"{i}.png")
    return folder


def test_shards_are_made_counted_and_evaluated(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "photos")
    assert here("data", "make", "photos", "--out", "shards") == (0, [])
    monkeypatch.setattr(sys, "argv", ["robustclip", "data", "stats", "shards"])
    cli.main()
    told = capsys.readouterr().out
    assert re.search(r"cat +3 ", told) and re.search(r"dog +3 ", told)
    settings = ["tasks.digits-small.shards=shards", "defenses={none: {}}", "attacks.pgd.steps=1", "views=[adaptive]"]
    assert here("evaluate", "tiny", "checkpoint_tiny", *settings, "--out", "run")[0] == 0
    assert (tmp_path / "run" / "report" / "index.html").is_file()


def test_an_image_that_does_not_decode_is_named_and_nothing_is_written(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (pictures(tmp_path / "photos") / "cat" / "9.png").write_text("<html>")
    code, lines = here("data", "make", "photos", "--out", "shards")
    assert code == 2 and "cat/9.png" in lines[0]
    assert not (tmp_path / "shards").exists()
    assert here("data", "make", "photos", "--out", "shards", "--skip-bad")[0] == 0


def test_the_tiny_model_is_a_name_like_any_other() -> None:
    ours, named = load_tiny(), load_clip("tiny")
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(ours.image(x), named.image(x))
