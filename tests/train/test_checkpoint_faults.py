"""A training goes back behind a damaged checkpoint, and stops at a poisoned one."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from configs.files import ConfigError
from configs.load import load_config
from tests.modules.evil import ATTACKS, Calls, plant
from tests.train.stubs import checkpoint
from train.checkpoint_faults import fault_of, first_sound
from train.checkpoint_io import WholeFiles
from train.replay_state import checkpoint_before
from train.runs import Run, open_run

CONFIG = load_config("finetune", "fare_tiny_eps4")


def _cut(path: Path) -> None:
    torch.save(checkpoint(9), path)
    path.write_bytes(path.read_bytes()[:-100])


def _compressed(path: Path) -> None:
    torch.save(checkpoint(9), path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, held in content.items():
            archive.writestr(name, held)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02no pickle")


DAMAGED: list[tuple[Callable[[Path], object], str]] = [
    (_cut, "is damaged"),
    (lambda path: path.write_bytes(b""), "is damaged"),
    (lambda path: path.write_bytes(pickle.dumps({"state_dict": {}})), "is damaged"),
    (_compressed, "is damaged"),
    (_zip, "holds what no training writes"),
    (lambda path: torch.save([1, 2], path), "is no checkpoint of a training (it lacks epoch, "),
    (lambda path: torch.save({"state_dict": {}}, path), "is no checkpoint of a training (it lacks epoch, "),
    (lambda path: torch.save({**checkpoint(9), "x": Path("x")}, path), "holds what no training writes"),
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with sound checkpoints of steps 3 and 6."""
    opened = open_run("fare", CONFIG, tmp_path / "run")
    for step in (3, 6):
        WholeFiles().save_checkpoint(checkpoint(step), opened.checkpoints / f"step={step:06d}.ckpt")
    return opened


@pytest.mark.parametrize(("write", "told"), DAMAGED)
def test_a_run_goes_back_behind_a_damaged_checkpoint(
    write: Callable[[Path], object], told: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, before = run.checkpoints / "step=000009.ckpt", run.checkpoints / "step=000006.ckpt"
    write(newest)
    assert run.newest_checkpoint() == before and checkpoint_before(run, 20) == (before, 6)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"{newest} {told}") and lines[0].endswith("to the one before")


def test_a_run_without_a_sound_checkpoint_has_none(run: Run) -> None:
    for path in run.checkpoints.iterdir():
        path.write_bytes(b"")
    assert run.newest_checkpoint() is None and first_sound([]) is None


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("number", range(len(ATTACKS)))
def test_a_run_stops_at_a_poisoned_checkpoint(number: int, bare: bool, run: Run, tmp_path: Path) -> None:
    attack, mark, newest = ATTACKS[number][0], tmp_path / "mark", run.checkpoints / "step=000009.ckpt"
    if bare:
        newest.write_bytes(pickle.dumps({"state_dict": attack(mark)}))
    else:
        plant(newest, attack, mark)
    for ask in (run.newest_checkpoint, lambda: checkpoint_before(run, 20)):
        with pytest.raises(ConfigError, match=r"step=000009\.ckpt was not loaded: it would run ") as caught:
            ask()
        line = str(caught.value)
        assert "nothing was run" in line and "remove it, and the same command goes on" in line and "\n" not in line
    assert not mark.exists()
    newest.unlink()  # what the line says to do
    assert run.newest_checkpoint() == run.checkpoints / "step=000006.ckpt"


def test_the_line_is_inert_whatever_the_file_says(tmp_path: Path) -> None:
    path = plant(tmp_path / "a.ckpt", lambda mark: Calls(print, "\x1b[31m\n<b>\u202e"), tmp_path)
    with pytest.raises(ConfigError) as caught:
        fault_of(path)
    assert str(caught.value).isprintable()


def test_a_file_that_changed_since_it_was_chosen_is_refused_too(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = plant(tmp_path / "a.ckpt", ATTACKS[0][0], mark)
    for weights_only in (True, False, None):
        with pytest.raises(ConfigError, match=r"a\.ckpt was not loaded: .*; nothing was run; remove it"):
            WholeFiles().load_checkpoint(path, weights_only=weights_only)
    assert not mark.exists()


def test_a_checkpoint_on_a_disk_that_is_not_there_stops_the_run_and_loses_no_steps(run: Run, tmp_path: Path) -> None:
    link = run.checkpoints / "step=000009.ckpt"
    link.symlink_to(tmp_path / "scratch" / "step=000009.ckpt")
    with pytest.raises(
        ConfigError, match=r"step=000009\.ckpt, a link to .*scratch.*, cannot be read .*; make it readable"
    ):
        run.newest_checkpoint()
    link.unlink()
    link.mkdir()
    assert run.newest_checkpoint() == run.checkpoints / "step=000006.ckpt"
