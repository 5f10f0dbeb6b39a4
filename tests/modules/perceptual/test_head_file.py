"""Heads in files: bound to their encoder, refused where they are damaged or something else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from modules.checkpoint import read_state, write_tower
from modules.encoders.fingerprint import fingerprint
from modules.encoders.tiny import load_tiny
from modules.perceptual.head_file import HEAD, load_head, save_head
from modules.perceptual.residual_head import ResidualHead

ENCODER = load_tiny().image


@pytest.fixture
def file(tmp_path: Path) -> Path:
    head = ResidualHead(copy.deepcopy(ENCODER), hidden=5)
    torch.nn.init.normal_(head.fc2.weight, generator=torch.Generator().manual_seed(0))
    return save_head(head, tmp_path / "head.safetensors", step=7, base={"name": "tiny", "pretrained": ""})


def test_a_head_comes_back_frozen_and_sees_z_and_its_two_layers(file: Path) -> None:
    head, said = load_head(ENCODER, file)
    assert (said["kind"], said["hidden"], said["step"]) == (HEAD, 5, 7)
    assert not head.training and not any(parameter.requires_grad for parameter in head.parameters())
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    state, _ = read_state(file)
    z = ENCODER.encode_image(x)
    inner = (z @ state["fc1.weight"].T + state["fc1.bias"]).clamp_min(0)
    torch.testing.assert_close(head.encode_image(x), z + inner @ state["fc2.weight"].T + state["fc2.bias"])
    assert fingerprint(head) != fingerprint(ENCODER), "rows of a head are not those of its encoder"


def test_a_gradient_goes_through_the_head_to_the_pixels(file: Path) -> None:
    head, _ = load_head(ENCODER, file)
    x = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    behind, bare = (torch.autograd.grad(encoder(x)[:, 0].sum(), x)[0] for encoder in (head, ENCODER))
    assert behind.abs().sum() > 0 and not torch.allclose(behind, bare)


def test_a_head_of_another_encoder_is_refused_with_the_names_of_both(file: Path) -> None:
    other = copy.deepcopy(ENCODER)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    with pytest.raises(ValueError) as told:
        load_head(other, file)
    for part in (fingerprint(ENCODER), fingerprint(other), "tiny", "name that one and its checkpoint"):
        assert part in str(told.value)
    assert "\n" not in str(told.value)


def test_what_is_no_head_or_damaged_is_refused_in_a_line(file: Path, tmp_path: Path) -> None:
    state, said = read_state(file)
    made = {
        "is not a head": ({"fc1.weight": torch.ones(2)}, {"kind": HEAD}),
        "is damaged": ({**state, "fc2.weight": torch.ones(3, 3)}, said),
        "not finite, in fc1.bias": ({**state, "fc1.bias": torch.full((5,), torch.nan)}, said),
    }
    for words, (tensors, metadata) in made.items():
        path = write_tower(tensors, tmp_path / "odd.safetensors", **metadata)
        with pytest.raises(ValueError, match=words) as told:
            load_head(ENCODER, path)
        assert "\n" not in str(told.value)
