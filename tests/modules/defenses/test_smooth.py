"""Stand-ins for attackers: the defence's values, a slope where it has none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.defenses.anti_adversary import AntiAdversary
from modules.defenses.smooth import GATE_SOFTNESS, SHARPNESS, opened, signs, unrolling, variant
from modules.encoders.base import ImageEncoder
from tests.modules.toys import ConvEncoder, head, images


class Attention(ImageEncoder):
    """Rows of an image attend to one another, in the fused kernel where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim, self.image_size = 16, 8

    def encode_image(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).view(len(x), 1, 12, 16)
        return F.scaled_dot_product_attention(rows, rows + 1, rows.sin()).mean(dim=(1, 2))


def test_a_straight_through_sign_has_the_signs_value_and_the_tanhs_slope() -> None:
    grad = torch.randn(3, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.equal(signs(grad), grad.sign())
    slopes = [torch.autograd.grad((signs(grad, soft=soft) * grad.detach()).sum(), grad)[0] for soft in (False, True)]
    assert torch.equal(slopes[0], slopes[1]) and slopes[0].abs().min() > 0
    size = grad[0].abs().mean()
    assert torch.allclose(signs(grad, soft=True)[0], torch.tanh(SHARPNESS * grad[0] / size))


def test_a_straight_through_gate_has_the_gates_value_and_the_sigmoids_slope() -> None:
    opening = torch.tensor([-0.3, 0.0, 0.2], requires_grad=True)
    assert opened(opening).tolist() == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)
    (slope,) = torch.autograd.grad(opened(opening).sum(), opening)
    p = torch.sigmoid(opening.detach() / GATE_SOFTNESS)
    assert torch.allclose(slope, p * (1 - p) / GATE_SOFTNESS)
    assert torch.allclose(opened(opening, soft=True), p)


def test_a_variant_shares_the_weights_and_leaves_the_original_alone() -> None:
    defense = AntiAdversary(ConvEncoder(), head(16))
    other = variant(defense, steps=7)
    assert (defense.steps, other.steps) == (2, 7)
    assert other.encoder is defense.encoder
    with pytest.raises(AssertionError, match="no stepz"):
        variant(defense, stepz=7)


def test_unrolling_is_asked_for_by_a_gradient_and_by_nothing_else() -> None:
    x = images(1)
    for leaf, enabled, expected in ((x, True, False), (x.clone().requires_grad_(), True, True)):
        with torch.set_grad_enabled(enabled), unrolling(leaf) as exact:
            assert exact is expected
    with torch.no_grad(), unrolling(x.clone().requires_grad_()) as exact:
        assert exact is False


def test_attention_can_be_differentiated_twice_while_unrolling_and_only_then() -> None:
    defense, x = AntiAdversary(Attention(), head(16), step_size=0.01), images(2).requires_grad_()
    (grad,) = torch.autograd.grad(defense.encode_image(x).sum(), x)
    assert torch.isfinite(grad).all() and grad.abs().max() > 0
    with pytest.raises(RuntimeError, match="derivative"):
        (inner,) = torch.autograd.grad(Attention().encode_image(x).sum(), x, create_graph=True)
        torch.autograd.grad(inner.square().sum(), x)
