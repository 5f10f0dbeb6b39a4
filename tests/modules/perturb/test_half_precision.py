"""Gradients of pixels through float16, against those of the same computation in single precision."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.attacks.fab import FAB
from modules.attacks.pgd import PGD
from modules.perturb import Threat, ascend, ascent
from modules.perturb.ascent import slope
from modules.perturb.losses import Loss, cross_entropy, margin, squared_l2
from tests.modules.toys import ConvEncoder, classifier, head, images

SIZE = 32


def tecoa(encoder: ConvEncoder, x: Tensor) -> Loss:
    """The cross-entropy of classes that the encoder is sure of: softmax and label differ by 1e-28 to 1."""
    classify = head(encoder.embedding_dim, scale=100.0)
    y = classify(encoder.encode_image(x)).argmax(dim=1).detach()
    return lambda v: cross_entropy(classify(encoder.encode_image(v)), y)


def fare(encoder: ConvEncoder, x: Tensor) -> Loss:
    target = encoder.encode_image(x).detach()
    return lambda v: squared_l2(encoder.encode_image(v), target)


def gradient(loss: Loss, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    leaf = x.detach().requires_grad_()
    with torch.autocast("cpu", dtype or torch.float16, enabled=dtype is not None):
        return slope(loss(leaf), leaf)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return (F.normalize(a.double().flatten(1), eps=1e-300) * F.normalize(b.double().flatten(1), eps=1e-300)).sum(dim=1)


def dead(grad: Tensor) -> float:
    """The share of images whose gradient is zero at every pixel."""
    return float((grad == 0).flatten(1).all(dim=1).float().mean())


@pytest.fixture
def encoder() -> ConvEncoder:
    return ConvEncoder(size=SIZE).requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    return images(12, SIZE)


@pytest.mark.parametrize("objective", [tecoa, fare])
def test_no_image_loses_its_gradient_and_it_points_where_that_of_single_precision_does(
    objective: Callable[[ConvEncoder, Tensor], Loss], encoder: ConvEncoder, x: Tensor
) -> None:
    loss, start = objective(encoder, x), (x + Threat(eps=4 / 255).sample(x)).clamp(0, 1)
    half, single = gradient(loss, start, torch.float16), gradient(loss, start)
    assert half.dtype == torch.float32
    assert dead(half) == dead(single) == 0
    assert cosines(half, single).min() > 0.98


def test_without_scaling_most_confident_images_have_no_gradient(
    encoder: ConvEncoder, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ascent, "entry_to_half", lambda value, device: None)
    assert dead(gradient(tecoa(encoder, x), x, torch.float16)) > 0.5


@pytest.mark.parametrize("objective", [tecoa, fare])
def test_the_inner_attack_of_a_training_step_raises_the_loss_as_in_single_precision(
    objective: Callable[[ConvEncoder, Tensor], Loss], encoder: ConvEncoder, x: Tensor
) -> None:
    loss = objective(encoder, x)
    attack = PGD(Threat(eps=8 / 255), steps=5, step_size=4 / 255, keep="last")
    single = attack.perturb(loss, x)
    with torch.autocast("cpu", torch.float16):
        half = attack.perturb(loss, x)
    assert (half - single).abs().mean() < 0.02 * 8 / 255
    torch.testing.assert_close(loss(half), loss(single), rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_single_precision_and_bfloat16_are_left_alone(
    dtype: torch.dtype | None, encoder: ConvEncoder, x: Tensor
) -> None:
    loss, leaf = tecoa(encoder, x), x.clone().requires_grad_()
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        (plain,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    assert torch.equal(gradient(loss, x, dtype), plain)


def test_a_model_in_half_precision_is_found_without_autocast(encoder: ConvEncoder, x: Tensor) -> None:
    half = copy.deepcopy(encoder).half()
    classify, single = head(encoder.embedding_dim, scale=100.0), tecoa(encoder, x)
    y = classify(encoder.encode_image(x)).argmax(dim=1)
    for loss in (
        lambda v: cross_entropy(classify(half.encode_image(v.half())), y),
        lambda v: cross_entropy(classify(half.encode_image(v.half()).float()) + 0 * v.mean(), y),
    ):
        found = gradient(loss, x)
        assert dead(found) == 0
        assert cosines(found, gradient(single, x)).min() > 0.98


def test_a_loss_that_is_itself_in_half_precision_keeps_its_small_gradients(x: Tensor) -> None:
    assert dead(gradient(lambda v: (v.half() * 2.0**-13).flatten(1).sum(dim=1) * 2.0**-13, x)) == 0


@pytest.mark.parametrize("factor", [2.0**-32, 2.0**-10, 1.0, 2.0**10, 2.0**15])
def test_what_overflows_or_vanishes_on_the_way_is_tried_again(factor: float, x: Tensor) -> None:
    """The loss sums a square of pixels that pass through float16 times a factor: its gradient is known."""

    def loss(v: Tensor) -> Tensor:
        return (factor * (0.01 * v).half()).float().flatten(1).sum(dim=1).mul(1e-12).exp()

    expected = torch.full_like(x, 0.01 * factor * 1e-12)
    torch.testing.assert_close(gradient(loss, x), expected, rtol=0.05, atol=0)


def test_images_of_very_different_gradients_do_not_disturb_each_other(x: Tensor) -> None:
    weight = 10.0 ** -torch.arange(0.0, 36.0, 3.0)

    def loss(v: Tensor) -> Tensor:
        return weight * v.half().float().square().flatten(1).sum(dim=1)

    torch.testing.assert_close(gradient(loss, x), 2 * weight[:, None, None, None] * x, rtol=0.01, atol=0)


def test_where_there_is_no_gradient_none_is_made_up(encoder: ConvEncoder, x: Tensor) -> None:
    assert dead(gradient(lambda v: encoder.encode_image(v).round().sum(dim=1), x, torch.float16)) == 1
    assert dead(gradient(lambda v: 0 * encoder.encode_image(v).sum(dim=1), x, torch.float16)) == 1
    assert dead(gradient(lambda v: (4 * (0 * v.half())).float().flatten(1).sum(dim=1), x)) == 1  # no 0 times infinity
    assert dead(gradient(lambda v: 0 * v.sum() + encoder.encode_image(x).sum(dim=1), x, torch.float16)) == 1


def test_it_can_be_differentiated_again(x: Tensor) -> None:
    leaf = x.clone().requires_grad_()
    first = slope(leaf.half().float().pow(3).flatten(1).sum(dim=1), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), leaf)
    torch.testing.assert_close(second, 6 * x, rtol=0.01, atol=0.01)


def test_fab_finds_the_boundary_of_a_model_in_half_precision(x: Tensor) -> None:
    net = classifier(ConvEncoder().requires_grad_(False))
    x = x[..., :8, :8].contiguous()
    y = net(x).argmax(dim=1)

    def tiny(v: Tensor) -> Tensor:
        return 1e-9 * net.head(net.encoder.encode_image(v).half())

    found = [FAB(Threat(eps=0.1), steps=10)(victim, x, y) for victim in (net, tiny)]
    fooled = [margin(net(x_adv), y) > 0 for x_adv in found]
    assert fooled[0].float().mean() > 0.5
    assert (fooled[0] == fooled[1]).float().mean() > 0.9


def test_the_iterates_of_an_ascent_hold_no_activations(encoder: ConvEncoder, x: Tensor) -> None:
    steps = ascend(fare(encoder, x), x, Threat(), steps=2, step_size=1 / 255)
    assert [iterate.value is not None and iterate.value.requires_grad for iterate in steps] == [False] * 3
