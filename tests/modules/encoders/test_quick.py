"""Quicker layers answer as torch's do, in double precision, with gradients; what they do not know goes torch's way."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modules.counting import flops_of
from modules.encoders.quick import PackedAttention, PatchConv2d, quicken


def attention(**settings: bool) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    return nn.MultiheadAttention(12, 3, **{"batch_first": True, **settings}).double()


def quickened(layer: nn.Module) -> nn.Module:
    tower = nn.Sequential(copy.deepcopy(layer))
    quicken(tower)
    return tower[0]


def answers(work: Callable[[Tensor], Tensor], x: Tensor, layer: nn.Module) -> list[Tensor]:
    """The answer, and the gradients of x and of every weight."""
    leaf = x.clone().requires_grad_()
    found = work(leaf)
    wanted = [leaf, *(weight for weight in layer.parameters() if weight.requires_grad)]
    return [found, *torch.autograd.grad(found.cos().sum(), wanted)]


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_answers_as_torchs(bias: bool, trained: bool) -> None:
    plain = attention(bias=bias).requires_grad_(trained)
    quick = quickened(plain)
    assert isinstance(quick, PackedAttention) and quick.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    ours = answers(lambda x: quick(x, x, x, need_weights=False, attn_mask=None)[0], x, quick)
    theirs = answers(lambda x: plain(x, x, x, need_weights=False)[0], x, plain)
    torch.testing.assert_close(ours, theirs)
    assert all(map(torch.equal, ours, theirs)) or not trained


def test_attention_of_others_with_masks_or_weights_goes_torchs_way() -> None:
    plain = attention().eval()
    quick = quickened(plain)
    x, other = torch.randn(2, 2, 5, 12, dtype=torch.float64)
    mask = torch.full((5, 5), float("-inf"), dtype=torch.float64).triu(1)
    for call in (
        lambda layer: layer(x, other, other, need_weights=False)[0],
        lambda layer: layer(x, x, x, need_weights=False, attn_mask=mask)[0],
        lambda layer: layer(x, x, x)[1],
        lambda layer: layer(x, x, x, need_weights=False, key_padding_mask=mask[:2].isinf())[0],
        lambda layer: layer(x[0], x[0], x[0], need_weights=False)[0],
    ):
        assert torch.equal(call(quick), call(plain))


@pytest.mark.parametrize(
    "layer", [attention(batch_first=False), attention(add_bias_kv=True), attention(add_zero_attn=True)]
)
def test_other_kinds_of_attention_are_left_alone(layer: nn.Module) -> None:
    assert type(quickened(layer)) is nn.MultiheadAttention


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_patches_answer_as_torchs_convolution(bias: bool, trained: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 7, (4, 2), stride=(4, 2), bias=bias).double().requires_grad_(trained)
    quick = quickened(plain)
    assert isinstance(quick, PatchConv2d) and quick.state_dict().keys() == plain.state_dict().keys()
    for x in (torch.randn(2, 3, 12, 8, dtype=torch.float64), torch.randn(2, 3, 13, 9, dtype=torch.float64)):
        torch.testing.assert_close(answers(quick, x, quick), answers(plain, x, plain))


@pytest.mark.parametrize(
    "settings", [{"stride": 2}, {"stride": 4, "padding": 1}, {"stride": 4, "dilation": 2}, {"stride": 4, "groups": 2}]
)
def test_other_convolutions_are_left_alone(settings: dict[str, int]) -> None:
    assert type(quickened(nn.Conv2d(4, 4, 4, **settings))) is nn.Conv2d  # pyright: ignore[reportArgumentType]


def test_without_gradients_of_pixels_every_bit_is_torchs() -> None:
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Conv2d(3, 12, 4, stride=4), nn.Flatten(2), nn.Identity()).requires_grad_(False)
    plain, quick = copy.deepcopy(tower), quickened(tower)
    x = torch.rand(8, 3, 32, 32)
    assert torch.equal(quick(x), plain(x))
    attends = attention().float().requires_grad_(False)
    tokens = torch.randn(8, 5, 12)
    with torch.no_grad():
        assert torch.equal(
            quickened(attends)(tokens, tokens, tokens, need_weights=False)[0],
            attends(tokens, tokens, tokens, need_weights=False)[0],
        )


def test_gradients_of_pixels_are_products_of_matrices_with_frozen_weights_too() -> None:
    quick = quickened(nn.Conv2d(3, 64, 8, stride=8)).requires_grad_(False)
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    whole = flops_of(lambda: torch.autograd.grad(quick(x).sum(), x))
    assert whole == 2 * 2 * (2 * 16) * (3 * 64) * 64  # the pass there and the pass back, a product each
