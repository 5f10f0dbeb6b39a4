"""Weights in and out of files, without running code from one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.checkpoint import load_tower, read_state, save_tower
from tests.modules.toys import ConvEncoder


def tower(seed: int = 0) -> torch.nn.Module:
    return ConvEncoder(seed=seed).body


def state(seed: int = 1) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in tower(seed).state_dict().items()}


def test_a_tower_round_trips_with_its_metadata(tmp_path: Path) -> None:
    path = save_tower(tower(1), tmp_path / "a" / "t.safetensors", objective="fare", step=7)
    loaded = tower(0)
    assert load_tower(loaded, path) == {"kind": "encoder", "objective": "fare", "step": 7}
    assert all(torch.equal(v, state()[k]) for k, v in loaded.state_dict().items())
    assert [p.name for p in path.parent.iterdir()] == ["t.safetensors"]


LAYOUTS: dict[str, Any] = {
    "flat visual": lambda s: s,
    "full CLIP": lambda s: {f"visual.{k}": v for k, v in s.items()} | {"logit_scale": torch.ones(1)},
    "open_clip epoch": lambda s: {"state_dict": {f"module.visual.{k}": v for k, v in s.items()}, "epoch": 3},
    "TeCoA": lambda s: {"vision_encoder_state_dict": s},
    "Lightning": lambda s: {"state_dict": {f"encoder.visual.{k}": v for k, v in s.items()}, "global_step": 3},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_layouts_in_use_are_read(layout: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(layout(state()), path)
    loaded = tower(0)
    load_tower(loaded, path)
    assert all(torch.equal(v, state()[k]) for k, v in loaded.state_dict().items())


class Malicious:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".pth", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_never_run(suffix: str, zipped: bool, tmp_path: Path) -> None:
    path, canary = tmp_path / f"evil{suffix}", tmp_path / "canary"
    if zipped:
        torch.save({"state_dict": Malicious(canary)}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": Malicious(canary)}))
    with pytest.raises(ValueError, match="was not loaded"):
        read_state(path)
    assert not canary.exists()
    pickle.loads(path.read_bytes()) if not zipped else torch.load(path, weights_only=False)
    assert canary.exists(), "the planted code does run where it is let"


def faulty(kind: str, path: Path) -> Path:
    s = state()
    if kind == "missing":
        return path / "nothing.pt"
    if kind == "folder":
        return path
    if kind == "other kind":
        (path / "x.txt").write_text("hello")
        return path / "x.txt"
    if kind == "truncated":
        torch.save(s, path / "t.pt")
        (path / "t.pt").write_bytes((path / "t.pt").read_bytes()[:2000])
        return path / "t.pt"
    if kind == "garbage":
        (path / "g.safetensors").write_bytes(os.urandom(500))
        return path / "g.safetensors"
    if kind == "lacks":
        s.pop("0.weight")
    elif kind == "extra":
        s["extra"] = torch.zeros(1)
    elif kind == "shape":
        s["0.weight"] = s["0.weight"][:2]
    elif kind == "not finite":
        s["0.weight"][0] = float("nan")
    elif kind == "no tensors":
        s = {"a": 1}  # pyright: ignore[reportAssignmentType]
    elif kind == "list":
        torch.save([1, 2], path / "l.pt")
        return path / "l.pt"
    torch.save(s, path / "s.pt")
    return path / "s.pt"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("missing", "no checkpoint at"),
        ("folder", "is a folder"),
        ("other kind", "choose one of: .safetensors"),
        ("truncated", "was not loaded: it is damaged"),
        ("garbage", "damaged or not a safetensors file"),
        ("lacks", "1 tensor differs: no 0.weight"),
        ("extra", "1 tensor differs: unexpected extra"),
        ("shape", r"0.weight is \[2, 3, 3, 3\] instead of \[12, 3, 3, 3\]"),
        ("not finite", "not finite, in 0.weight"),
        ("no tensors", "holds no tensors"),
        ("list", "holds a list"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_one_line(kind: str, told: str, tmp_path: Path) -> None:
    model = tower(0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=told) as caught:
        load_tower(model, faulty(kind, tmp_path))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
