"""Freezing, and the reference that remembers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules.encoders.base import FrozenReference, frozen
from tests.modules.toys import ConvEncoder, images


class Counting(ConvEncoder):
    calls = 0

    def encode_image(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().encode_image(x)


def test_frozen_restores_mode_and_gradients_even_after_an_error() -> None:
    encoder = ConvEncoder().train()
    encoder.body[0].requires_grad_(False)
    encoder.body[1].eval()

    def state() -> tuple[list[bool], list[bool]]:
        return [m.training for m in encoder.modules()], [p.requires_grad for p in encoder.parameters()]

    before = state()
    with pytest.raises(RuntimeError), frozen(encoder):
        assert not any(m.training for m in encoder.modules())
        assert not any(p.requires_grad for p in encoder.parameters())
        raise RuntimeError
    assert state() == before


def test_pixels_still_have_a_gradient_inside_frozen() -> None:
    encoder, x = ConvEncoder(), images().requires_grad_()
    with frozen(encoder):
        (grad,) = torch.autograd.grad(encoder(x).sum(), x)
    assert grad.abs().sum() > 0


def test_the_reference_answers_the_same_batch_once_and_another_one_anew() -> None:
    encoder, x, other = Counting(), images(seed=1), images(seed=2)
    reference = FrozenReference(encoder)
    first = reference.encode_image(x)
    assert torch.equal(reference.encode_image(x), first) and encoder.calls == 1
    assert not torch.equal(reference.encode_image(other), first) and encoder.calls == 2
    assert not first.requires_grad and not any(p.requires_grad for p in reference.parameters())


def test_the_reference_takes_a_batch_for_what_it_was_told_and_computes_others() -> None:
    encoder, x, other = Counting(), images(seed=1), images(seed=2)
    reference = FrozenReference(encoder)
    told = torch.ones(len(x), encoder.embedding_dim)
    reference.remember(x, told)
    assert reference.encode_image(x) is told and encoder.calls == 0
    reference.encode_image(other)
    assert reference.encode_image(x) is told and encoder.calls == 1  # another answer does not push it out
    assert not torch.equal(reference.encode_image(x.clone()), told), "an equal tensor is another batch"
    reference.remember(other, told)
    assert reference.encode_image(other) is told
