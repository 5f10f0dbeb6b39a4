"""Fewer activations and compiled passes change nothing that is computed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from modules.attacks.pgd import PGD
from modules.encoders.base import frozen
from modules.encoders.clip import CLIPEncoder
from modules.encoders.tiny import load_tiny
from modules.lightning.student import Compiled, keep_fewer_activations
from modules.perturb.losses import squared_l2
from modules.perturb.threat import Threat


@pytest.fixture
def encoder() -> CLIPEncoder:
    return load_tiny().image.train()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def attacked_gradients(student: Any, encoder: CLIPEncoder, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The perturbed images, and the weights' gradients of the outer loss there."""
    target = load_tiny().image.encode_image(x).detach()
    with frozen(encoder):
        attack = PGD(Threat("linf", 4 / 255), steps=3, step_size=2 / 255, keep="last")
        x_adv = attack.perturb(lambda v: squared_l2(student.encode_image(v), target), x, "inner")
    encoder.zero_grad()
    squared_l2(student.encode_image(x_adv), target).mean().backward()
    return x_adv, {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


def test_recomputed_activations_give_the_same_gradients(encoder: CLIPEncoder, x: Tensor) -> None:
    kept = attacked_gradients(encoder, encoder, x)
    thrifty = copy.deepcopy(encoder)
    keep_fewer_activations(thrifty)
    recomputed = attacked_gradients(thrifty, thrifty, x)
    assert torch.equal(kept[0], recomputed[0])
    assert kept[1].keys() == recomputed[1].keys() == {name for name, _ in encoder.named_parameters()}
    assert all(torch.equal(kept[1][name], recomputed[1][name]) for name in kept[1])


def test_fewer_activations_are_really_kept(encoder: CLIPEncoder, x: Tensor) -> None:
    def kept() -> int:
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder.encode_image(x)
        return sum(sizes)

    before = kept()
    keep_fewer_activations(encoder)
    assert kept() < before / 4


def test_a_tower_that_cannot_is_told_in_a_line() -> None:
    from open_clip.modified_resnet import ModifiedResNet

    resnet = ModifiedResNet([1, 1, 1, 1], output_dim=8, heads=1, image_size=32, width=8)
    encoder = CLIPEncoder(resnet, mean=[0.5] * 3, std=[0.5] * 3, image_size=32, embedding_dim=8)
    with pytest.raises(ValueError, match="trainer.checkpointing: a ModifiedResNet cannot compute activations anew"):
        keep_fewer_activations(encoder)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.filterwarnings("ignore")
def test_compiled_passes_give_the_same_gradients(backend: str, encoder: CLIPEncoder, x: Tensor) -> None:
    eager = attacked_gradients(encoder, encoder, x)
    student = Compiled(encoder, backend=backend)
    compiled = attacked_gradients(student, encoder, x)
    assert torch.allclose(eager[0], compiled[0], atol=1e-6)
    assert all(torch.allclose(eager[1][n], compiled[1][n], rtol=1e-3, atol=1e-3) for n in eager[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_student_leaves_the_encoder_eager_and_owns_no_weights(encoder: CLIPEncoder, x: Tensor) -> None:
    student = Compiled(encoder, backend="eager")
    student.encode_image(x)
    assert not list(student.parameters()) and not list(student.children())
    leaf = x.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (grad,) = torch.autograd.grad(encoder.encode_image(leaf).square().sum(), leaf, create_graph=True)
        grad.square().sum().backward()  # twice, as a defence that itself differentiates needs it
    assert leaf.grad is not None and leaf.grad.abs().max() > 0
