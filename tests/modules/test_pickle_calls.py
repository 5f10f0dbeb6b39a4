"""What a pickle would call is told, and never called."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.pickle_calls import would_call
from tests.modules.evil import ATTACKS, Calls, plant
from tests.modules.prior.goldens import FOLDER


@pytest.mark.parametrize(("attack", "told"), ATTACKS)
@pytest.mark.parametrize("form", ["zip", "old", "bare"])
def test_every_attack_is_told_and_none_is_run(
    attack: Callable[[Path], Any], told: str, form: str, tmp_path: Path
) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pt"
    if form == "zip":
        plant(path, attack, mark)
    elif form == "old":
        torch.save(attack(mark), path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(attack(mark), 2))
    calls = would_call(path)
    assert any(told.removeprefix("torch.serialization.") in call for call in calls)
    assert not mark.exists()


def test_arguments_are_shown_in_few_printable_characters(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Calls(eval, "\x1b[2J" + "x" * 1000), 2))
    (call,) = would_call(path)
    assert call.startswith("builtins.eval('\\x1b[2Jxxx") and call.isprintable() and len(call) <= 160


def test_a_chain_of_calls_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system"), 2))
    assert would_call(path) == ["builtins.__import__('os')", "builtins.getattr(builtins.__import__('os'), 'system')"]


def test_a_name_that_is_only_looked_up_is_told(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    path.write_bytes(b"\x80\x02cos\nsystem\n.")
    assert would_call(path) == ["os.system"]


@pytest.mark.parametrize("old", [True, False])
def test_of_weights_nothing_is_told(old: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    tensors = {"a": torch.ones(2), "b": torch.ones(3).half(), "c": torch.nn.Parameter(torch.ones(1))}
    torch.save({"state_dict": tensors, "epoch": 3}, path, _use_new_zipfile_serialization=not old)
    assert would_call(path) == []
    assert would_call(FOLDER / "trainer-1.15.6.pth") == []
    path.write_bytes(b"no pickle at all")
    assert would_call(path) == []


def test_a_member_of_an_enumeration_that_a_checkpoint_may_hold_is_no_call(tmp_path: Path) -> None:
    path = tmp_path / "member.pkl"
    path.write_bytes(b"\x80\x02cbuiltins\ngetattr\ncpackaging.version\nVersion\nX\x03\x00\x00\x00ONE\x86R.")
    assert would_call(path) == []
    path.write_bytes(b"\x80\x02cbuiltins\ngetattr\ncbuiltins\nobject\nX\x03\x00\x00\x00ONE\x86R.")
    assert would_call(path) == ["builtins.getattr(builtins.object, 'ONE')", "builtins.object"]
