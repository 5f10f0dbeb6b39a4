"""The one ascent, against closed forms of a linear encoder."""

from __future__ import annotations

import torch

from modules.perturb import Threat, ascend
from modules.perturb.losses import squared_l2
from tests.modules.toys import ConvEncoder, LinearEncoder, images


def test_a_step_on_a_linear_encoder_is_the_sign_of_wtw_delta() -> None:
    encoder, x = LinearEncoder(), images(size=4) * 0.5 + 0.25
    threat = Threat("linf", 0.1)
    start = (torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) - 0.5) * 0.1
    z0 = encoder.encode_image(x).detach()
    path = list(
        ascend(
            lambda v: squared_l2(encoder.encode_image(v), z0),
            x,
            threat,
            steps=1,
            step_size=0.01,
            start=start,
        )
    )
    w = encoder.weight.detach()
    by_hand = x + (start + 0.01 * (start.flatten(1) @ w.T @ w).sign().view_as(x)).clamp(-0.1, 0.1)
    assert torch.allclose(path[1].x, by_hand, atol=1e-6)


def test_every_iterate_lies_in_ball_and_box() -> None:
    encoder, x, threat = ConvEncoder(), images(), Threat("l2", 0.5)
    z0 = encoder.encode_image(x).detach()
    path = list(
        ascend(
            lambda v: squared_l2(encoder.encode_image(v), z0),
            x,
            threat,
            steps=6,
            step_size=0.3,
            start=threat.sample(x),
        )
    )
    assert len(path) == 7
    assert all(threat.contains(x, iterate.x).all() for iterate in path)
    assert path[-1].value is None and all(iterate.value is not None for iterate in path[:-1])


def test_fares_loss_has_no_gradient_at_the_image_itself() -> None:
    encoder, x = ConvEncoder(), images()
    z0 = encoder.encode_image(x).detach()
    path = list(
        ascend(
            lambda v: squared_l2(encoder.encode_image(v), z0),
            x,
            Threat("linf", 0.1),
            steps=3,
            step_size=0.05,
        )
    )
    assert torch.equal(path[-1].x, x)  # which is why its attack must start elsewhere


def test_the_gradient_mode_of_the_caller_is_left_alone_between_iterates() -> None:
    encoder, x = ConvEncoder(), images()
    with torch.no_grad():
        for _ in ascend(lambda v: encoder.encode_image(v).sum(1), x, Threat(), steps=2, step_size=0.01):
            assert not torch.is_grad_enabled()


def test_a_differentiable_ascent_has_the_gradient_of_finite_differences() -> None:
    encoder = ConvEncoder().double()
    x = images(2).double() * 0.5 + 0.25
    threat = Threat("l2", 10.0)

    def end(v: torch.Tensor) -> torch.Tensor:
        path = ascend(
            lambda p: encoder.encode_image(p).square().sum(1),
            v,
            threat,
            steps=2,
            step_size=0.05,
            differentiable=True,
        )
        return list(path)[-1].x.sum()

    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(end(leaf), leaf)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    h = 1e-5
    slope = (end(x + h * direction) - end(x - h * direction)) / (2 * h)
    assert torch.allclose((grad * direction).sum(), slope, rtol=1e-4)
