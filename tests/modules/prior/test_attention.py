from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.prior.attention import Attention, AttentionKind
from modules.prior.layers import FeedForward, LayerNorm
from modules.prior.positions import RelativeBias, Rotary


def _normed(x: list[float], gain: Tensor) -> list[float]:
    mean = sum(x) / len(x)
    variance = sum((a - mean) ** 2 for a in x) / len(x)
    return [(a - mean) / math.sqrt(variance + 1e-5) * g for a, g in zip(x, gain.tolist(), strict=True)]


def _times(weight: Tensor, x: list[float]) -> list[float]:
    return [sum(w * a for w, a in zip(row, x, strict=True)) for row in weight.tolist()]


def _rotated(x: list[float], position: int, channels: int) -> list[float]:
    out = list(x)
    for k in range(channels // 2):
        angle = position * 10000 ** (-2 * k / channels)
        out[2 * k] = x[2 * k] * math.cos(angle) - x[2 * k + 1] * math.sin(angle)
        out[2 * k + 1] = x[2 * k + 1] * math.cos(angle) + x[2 * k] * math.sin(angle)
    return out


def _slow_attention(layer: Attention, x: Tensor, bias: Tensor, kind: AttentionKind) -> Tensor:
    """One sample [N, D], number by number."""
    heads, size = layer.heads, layer.null_kv.shape[1]
    rows = [_normed(row, layer.norm.g) for row in x.tolist()]
    keys, values = [layer.null_kv[0].tolist()], [layer.null_kv[1].tolist()]
    for position, row in enumerate(rows):
        both = _times(layer.to_kv.weight, row)
        keys.append(_rotated(both[:size], position, min(32, size)))
        values.append(both[size:])
    out = []
    for i, row in enumerate(rows):
        queries, joined = _times(layer.to_q.weight, row), []
        for h in range(heads):
            q = _rotated(queries[h * size : (h + 1) * size], i, min(32, size))
            logits = []
            for column in range(i + 2):
                dot = sum(a * b for a, b in zip(q, keys[column], strict=True))
                lengths = math.hypot(*q) * math.hypot(*keys[column])
                scaled = 16 * dot / lengths if kind == "cosine" else dot / math.sqrt(size)
                logits.append(scaled + bias[h, i, column].item())
            weights = [math.exp(a) for a in logits]
            joined += [sum(w * values[c][e] for c, w in enumerate(weights)) / sum(weights) for e in range(size)]
        projection, norm = layer.to_out
        assert isinstance(projection, torch.nn.Linear) and isinstance(norm, LayerNorm)
        out.append(_normed(_times(projection.weight, joined), norm.g))
    return torch.tensor(out, dtype=torch.float64)


def _layer(kind: AttentionKind) -> tuple[Attention, RelativeBias]:
    torch.manual_seed(3)
    layer = Attention(12, heads=3, dim_head=8, rotary=Rotary(8), attention=kind, dropout=0.0)
    torch.nn.init.uniform_(layer.norm.g, 0.5, 1.5)
    return layer.double(), RelativeBias(3).double()


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@torch.no_grad()
def test_attention_equals_a_slow_reference_written_with_loops(kind: AttentionKind) -> None:
    layer, relative = _layer(kind)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    bias = relative(0, 5)
    got, _ = layer(x, bias)
    expected = torch.stack([_slow_attention(layer, sample, bias, kind) for sample in x])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)  # rotary angles are float32


@torch.no_grad()
def test_attention_goes_on_from_earlier_keys_and_values() -> None:
    layer, relative = _layer("cosine")
    x = torch.randn(2, 6, 12, dtype=torch.float64)
    whole, _ = layer(x, relative(0, 6))
    _, past = layer(x[:, :4], relative(0, 4))
    rest, seen = layer(x[:, 4:], relative(4, 2), past)
    torch.testing.assert_close(rest, whole[:, 4:], rtol=0, atol=1e-12)
    assert seen[0].shape == (2, 7, 8)


@torch.no_grad()
def test_the_last_tokens_alone_are_answered_as_among_all() -> None:
    layer, relative = _layer("cosine")
    x = torch.randn(2, 6, 12, dtype=torch.float64)
    whole, kept = layer(x, relative(0, 6))
    for queries in (1, 4, 6):
        some, seen = layer(x, relative(0, 6), queries=queries)
        torch.testing.assert_close(some, whole[:, -queries:], rtol=0, atol=1e-12)
        assert all(map(torch.equal, seen, kept))
    _, past = layer(x[:, :2], relative(0, 2))
    rest, _ = layer(x[:, 2:], relative(2, 4), past, queries=1)
    torch.testing.assert_close(rest, whole[:, -1:], rtol=0, atol=1e-12)


def test_attention_has_a_second_derivative() -> None:
    layer, relative = _layer("cosine")
    x = torch.randn(1, 3, 12, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x, relative(0, 3))[0].square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert second.abs().max() > 0


def test_the_feed_forward_gates_with_its_second_half() -> None:
    torch.manual_seed(0)
    layer = FeedForward(6, mult=2, normformer=True, dropout=0.0).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    enter, leave = layer[1], layer[5]
    assert isinstance(enter, torch.nn.Linear) and isinstance(leave, torch.nn.Linear)
    hidden = F.layer_norm(x, (6,)) @ enter.weight.T
    gate = hidden[:, 12:]
    hidden = F.layer_norm(hidden[:, :12] * gate / (1 + torch.exp(-gate)), (12,))
    torch.testing.assert_close(layer(x), hidden @ leave.weight.T)


def test_the_stable_norm_divides_by_the_largest_entry_first() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0]]) * 1e-2  # small enough for eps to show the difference
    scaled = torch.tensor([0.25, 0.5, 1.0])
    expected = (scaled - scaled.mean()) / (scaled.var(unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(LayerNorm(3, stable=True)(x)[0], expected)
    assert not torch.allclose(LayerNorm(3)(x)[0], expected, atol=1e-3)


@pytest.mark.parametrize(("dtype", "eps"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-3)])
def test_the_norms_eps_follows_the_precision(dtype: torch.dtype, eps: float) -> None:
    x = torch.tensor([[1.0, -1.0]], dtype=dtype) * 2**-5
    expected = 2**-5 / math.sqrt(2**-10 + eps)
    assert LayerNorm(2).to(dtype)(x)[0, 0].item() == pytest.approx(expected, rel=5e-3)
