"""A checkpoint is whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.checkpoint import is_whole
from train import checkpoint_io
from train.checkpoint_io import WholeFiles

CONTENT = {"state_dict": {"weight": torch.arange(1000.0)}, "global_step": 7}


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints" / "step=000007.ckpt"
    WholeFiles().save_checkpoint(CONTENT, file)
    found = torch.load(file, weights_only=True)
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"]) and is_whole(file)  # type: ignore[index]
    assert [path.name for path in file.parent.iterdir()] == ["step=000007.ckpt"]


def test_one_changed_byte_anywhere_in_the_weights_shows(tmp_path: Path) -> None:
    file = tmp_path / "a.ckpt"
    WholeFiles().save_checkpoint(CONTENT, file)
    good = file.read_bytes()
    place = good.index(torch.arange(1000.0).numpy().tobytes())
    for offset in (0, 1777, 3999):
        bad = bytearray(good)
        bad[place + offset] ^= 1
        file.write_bytes(bytes(bad))
        torch.load(file, weights_only=True)  # which itself notices nothing
        assert not is_whole(file)


@pytest.mark.parametrize("kept", [0, 10, 500, -1])
def test_a_file_that_was_cut_short_shows(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "a.ckpt"
    WholeFiles().save_checkpoint(CONTENT, file)
    file.write_bytes(file.read_bytes()[:kept])
    assert not is_whole(file) and not is_whole(tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize("failing", ["write", "flush"])
def test_a_full_disk_leaves_the_checkpoint_before_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: str
) -> None:
    file = tmp_path / "a.ckpt"
    WholeFiles().save_checkpoint(CONTENT, file)
    before = file.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((checkpoint_io.torch, "save") if failing == "write" else (checkpoint_io.os, "fsync")), full)
    WholeFiles().save_checkpoint({**CONTENT, "global_step": 8}, file)
    told = capsys.readouterr().out
    assert (
        told == f"{file} could not be saved (No space left on device); the training goes on, earlier checkpoints stay\n"
    )
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_device_that_is_really_full_is_met_as_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".a.ckpt.tmp").symlink_to("/dev/full")
    WholeFiles().save_checkpoint(CONTENT, tmp_path / "a.ckpt")
    assert "could not be saved" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
