from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.counting import flops_of
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork

Tiny = Callable[..., DiffusionPrior]
Pairs = tuple[Tensor, Tensor, Tensor]
STEPS = torch.tensor([0, 7, 30, 49])


def _meta(**sizes: Any) -> PriorNetwork:
    with torch.device("meta"):
        return PriorNetwork(dim=768, **sizes)


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ({"depth": 24, "heads": 32, "max_text_len": 256}, 249_416_720),
        ({"depth": 12, "heads": 12, "max_text_len": 77}, 101_756_560),
    ],
)
def test_the_released_sizes_have_the_released_number_of_parameters(sizes: dict[str, int], count: int) -> None:
    assert sum(p.numel() for p in _meta(**sizes).parameters()) == count


def test_the_tensors_bear_the_names_and_shapes_of_the_checkpoints() -> None:
    with torch.device("meta"):
        prior = DiffusionPrior(PriorNetwork(dim=768, depth=24, heads=32), NoiseSchedule())
    found = {name: tuple(tensor.shape) for name, tensor in prior.state_dict().items()}
    expected: dict[str, tuple[int, ...]] = {
        f"noise_scheduler.{name}": (1000,) for name in NoiseSchedule(timesteps=2).state_dict()
    }
    stack = "net.causal_transformer"
    expected |= {
        "net.learned_query": (768,),
        "net.null_text_encodings": (1, 256, 768),
        "net.null_text_embeds": (1, 1, 768),
        "net.null_image_embed": (1, 768),
        "net.to_time_embeds.0.weight": (1000, 768),
        f"{stack}.rel_pos_bias.relative_attention_bias.weight": (32, 32),
        f"{stack}.norm.g": (768,),
        f"{stack}.project_out.weight": (768, 768),
    }
    for i in range(24):
        expected |= {
            f"{stack}.layers.{i}.0.null_kv": (2, 64),
            f"{stack}.layers.{i}.0.norm.g": (768,),
            f"{stack}.layers.{i}.0.to_q.weight": (2048, 768),
            f"{stack}.layers.{i}.0.to_kv.weight": (128, 768),
            f"{stack}.layers.{i}.0.rotary_emb.freqs": (16,),
            f"{stack}.layers.{i}.0.to_out.0.weight": (768, 2048),
            f"{stack}.layers.{i}.0.to_out.1.g": (768,),
            f"{stack}.layers.{i}.1.0.g": (768,),
            f"{stack}.layers.{i}.1.1.weight": (6144, 768),
            f"{stack}.layers.{i}.1.3.g": (3072,),
            f"{stack}.layers.{i}.1.5.weight": (768, 3072),
        }
    assert found == expected
    assert len(found) == 285


@torch.no_grad()
def test_no_token_sees_a_later_one(tiny: Tiny) -> None:
    transformer = tiny().net.causal_transformer
    x = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(0)).double()
    answer, before = transformer(x)
    for j in range(9):
        changed = x.clone()
        changed[0, j, 0] += 1
        other, after = transformer(changed)
        moved = (after.layers[-1][0] != before.layers[-1][0]).any(dim=-1)[0, 1:]
        assert moved.tolist() == [False] * j + [True] * (9 - j)
        assert (other != answer).any()


@torch.no_grad()
def test_the_last_layer_computes_what_is_read_of_it(tiny: Tiny) -> None:
    """Read token by token, with all before it kept, the answer is the same; and only one of the tokens is computed."""
    transformer = tiny().net.causal_transformer
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0)).double()
    answer, past = transformer(x[:, :1])
    for j in range(1, 9):
        answer, past = transformer(x[:, j : j + 1], past)
    torch.testing.assert_close(transformer(x)[0], answer, rtol=0, atol=1e-12)
    attention, feed_forward = transformer.layers[-1].children()
    bias = transformer.rel_pos_bias(0, 9)
    layer = flops_of(lambda: attention(x, bias)) + flops_of(lambda: feed_forward(x))
    last = flops_of(lambda: attention(x, bias, queries=1)) + flops_of(lambda: feed_forward(x[:, -1:]))
    read = last + flops_of(lambda: transformer.project_out(x[:, -1]))
    assert flops_of(lambda: transformer(x)) == (len(transformer.layers) - 1) * layer + read
    assert last < layer / 3


@torch.no_grad()
def test_padded_and_missing_text_states_are_one_and_the_same(tiny: Tiny, pairs: Pairs) -> None:
    net = tiny().net
    x, text, tokens = pairs
    padded = torch.cat([tokens, torch.zeros(4, 1, 32, dtype=torch.float64)], dim=1)
    assert torch.equal(net(x, STEPS, text, tokens), net(x, STEPS, text, padded))
    zeros = torch.zeros_like(tokens)
    assert torch.equal(net(x, STEPS, text, zeros), net(x, STEPS, text, None))
    assert not torch.allclose(net(x, STEPS, text, tokens), net(x, STEPS, text, None))


@torch.no_grad()
def test_states_beyond_the_longest_text_are_cut(tiny: Tiny, pairs: Pairs) -> None:
    net = tiny().net
    x, text, tokens = pairs
    longer = torch.cat([tokens, tokens], dim=1)
    assert torch.equal(net(x, STEPS, text, longer), net(x, STEPS, text, longer[:, :6]))


@torch.no_grad()
def test_the_learned_row_of_a_padded_state_is_that_of_its_position(tiny: Tiny, pairs: Pairs) -> None:
    net = tiny().net
    x, text, tokens = pairs
    filled = torch.cat([tokens, torch.zeros(4, 1, 32, dtype=torch.float64)], dim=1)
    empty = (filled == 0).all(dim=-1)
    assert net.null_text_encodings is not None
    filled[empty] = net.null_text_encodings.expand(4, -1, -1)[empty]
    assert torch.equal(net(x, STEPS, text, tokens), net(x, STEPS, text, filled))


@torch.no_grad()
def test_dropped_samples_see_neither_text_nor_image(tiny: Tiny, pairs: Pairs) -> None:
    net = tiny().net
    x, text, tokens = pairs
    keep = torch.tensor([True, False, True, False])
    none = torch.zeros(4, dtype=torch.bool)
    without_text = net(x, STEPS, text, tokens, keep_text=keep)
    whole, no_text = net(x, STEPS, text, tokens), net(x, STEPS, None)
    torch.testing.assert_close(without_text, torch.where(keep[:, None], whole, no_text))
    no_image = net(x, STEPS, text, tokens, keep_image=none)
    assert torch.equal(no_image, net(-x, STEPS, text, tokens, keep_image=none))
    assert not torch.allclose(no_image, whole)
    assert not torch.allclose(no_text, whole)


@torch.no_grad()
def test_a_text_prefix_gives_the_same_answer_as_the_text(tiny: Tiny, pairs: Pairs) -> None:
    net = tiny().net
    x, text, tokens = pairs
    prefix = net.text_prefix(text, tokens)
    torch.testing.assert_close(net(x, STEPS, None, prefix=prefix), net(x, STEPS, text, tokens), rtol=0, atol=1e-12)
    one_text = net.text_prefix(text[:1], tokens[:1])
    same = net(x, STEPS, text[:1].expand(4, -1), tokens[:1].expand(4, -1, -1))
    torch.testing.assert_close(net(x, STEPS, None, prefix=one_text), same, rtol=0, atol=1e-12)
    nothing = net(x, STEPS, None, prefix=net.text_prefix(None))
    torch.testing.assert_close(nothing, net(x, STEPS, None), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"num_time_embeds": 2, "num_image_embeds": 3, "num_text_embeds": 2},
        {"num_timesteps": None, "num_time_embeds": 2},
        {"self_cond": True},
        {"norm_in": True, "norm_out": False, "normformer": False, "rotary": False},
        {"attention": "dot"},
        {"final_proj": False, "stable_norm": "all"},
        {"nulls": "masked", "stable_norm": "none", "attention": "dot"},
        {"nulls": "padding"},
        {"nulls": "text_kept"},
    ],
)
@torch.no_grad()
def test_every_option_gives_its_own_answer_and_state_round_trips(
    tiny: Tiny, pairs: Pairs, options: dict[str, Any]
) -> None:
    x, text, tokens = pairs
    net = tiny(options).net
    got = net(x, STEPS, text, tokens)
    assert got.shape == (4, 32) and torch.isfinite(got).all()
    again = PriorNetwork(**net.config()).double().eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x, STEPS, text, tokens), got)
    prefix = net.text_prefix(text, tokens)
    torch.testing.assert_close(net(x, STEPS, None, prefix=prefix), got, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nulls", ["learned", "text_kept", "padding", "masked"])
@pytest.mark.parametrize("stable_norm", ["last", "all", "none"])
@torch.no_grad()
def test_older_semantics_answer_alike_with_and_without_a_prefix(
    tiny: Tiny, pairs: Pairs, nulls: str, stable_norm: str
) -> None:
    x, text, tokens = pairs
    net = tiny({"nulls": nulls, "stable_norm": stable_norm, "num_text_embeds": 2}).net
    for embedding, states in ((text, tokens), (text, None), (text[:1], tokens[1:2])):
        prefix = net.text_prefix(embedding, states)
        states = None if states is None else states.expand(4, -1, -1)
        whole = net(x, STEPS, embedding.expand(4, -1), states)
        torch.testing.assert_close(net(x, STEPS, None, prefix=prefix), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nulls", ["learned", "masked"])
@torch.no_grad()
def test_a_prefix_of_nothing_is_that_of_a_dropped_text(tiny: Tiny, pairs: Pairs, nulls: str) -> None:
    x, text, tokens = pairs
    net = tiny({"nulls": nulls, "num_text_embeds": 2}).net
    keep = torch.tensor([True, False, True, False])
    nothing = net(x, STEPS, None, prefix=net.text_prefix(None))
    whole = net(x, STEPS, None, prefix=net.text_prefix(text, tokens))
    expected = torch.where(keep[:, None], whole, nothing)
    dropped = net(x, STEPS, text, tokens, keep_text=keep)
    torch.testing.assert_close(dropped, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_masked_padding_leaves_no_trace_of_what_stood_there(tiny: Tiny, pairs: Pairs) -> None:
    x, text, tokens = pairs
    net = tiny({"nulls": "masked"}).net
    no_text = net(x, STEPS, None)
    assert torch.equal(no_text, net(x, STEPS, -text, tokens, keep_text=torch.zeros(4, dtype=torch.bool)))
    kept = net(x, STEPS, text, tokens, keep_image=torch.zeros(4, dtype=torch.bool))
    assert torch.equal(kept, net(x, STEPS, text, tokens))  # these releases never dropped the image
    assert {name for name, _ in net.named_parameters() if "null" in name} == {
        f"causal_transformer.layers.{i}.0.null_kv" for i in range(2)
    }


@torch.no_grad()
def test_masked_text_of_no_states_is_a_shorter_sequence(tiny: Tiny, pairs: Pairs) -> None:
    x, text, tokens = pairs
    short = tiny({"nulls": "masked", "max_text_len": 0}).net
    assert torch.equal(short(x, STEPS, text, tokens), short(x, STEPS, text, None))
    with pytest.raises(ValueError, match=r"^max_text_len=0: must be at least 1$"):
        tiny({"max_text_len": 0})


@torch.no_grad()
def test_the_two_kinds_of_attention_share_names_and_differ_in_answers(tiny: Tiny, pairs: Pairs) -> None:
    x, text, tokens = pairs
    cosine, dot = tiny().net, tiny({"attention": "dot"}).net
    dot.load_state_dict(cosine.state_dict())
    assert not torch.allclose(cosine(x, STEPS, text, tokens), dot(x, STEPS, text, tokens), atol=1e-3)


@torch.no_grad()
def test_half_precision_agrees_with_float32(tiny: Tiny, pairs: Pairs) -> None:
    x, text, tokens = pairs
    net = tiny().net.float()
    wide = net(x.float(), STEPS, text.float(), tokens.float())
    narrow = net.half()(x.half(), STEPS, text.half(), tokens.half())
    assert narrow.dtype == torch.float16
    assert torch.cosine_similarity(wide, narrow.float(), dim=-1).min() > 0.999


def test_impossible_sizes_are_refused_in_one_line(pairs: Pairs) -> None:
    with pytest.raises(ValueError, match=r"^depth=0: must be at least 1$"):
        PriorNetwork(dim=32, depth=0, heads=2)
    with pytest.raises(ValueError, match=r"^attn_dropout=1: must be in \[0, 1\)$"):
        PriorNetwork(dim=32, depth=1, heads=2, attn_dropout=1)
    with pytest.raises(ValueError, match=r"^unknown attention 'cos'; choose one of: cosine, dot$"):
        PriorNetwork(dim=32, depth=1, heads=2, attention="cos")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^unknown nulls 'none'; choose one of: learned, text_kept, padding, masked$"):
        PriorNetwork(dim=32, depth=1, heads=2, nulls="none")  # pyright: ignore[reportArgumentType]
    net = PriorNetwork(dim=32, depth=1, heads=2, max_text_len=6)
    with pytest.raises(ValueError, match="text states are 48 wide but the prior is 32 wide"):
        net(torch.zeros(2, 32), STEPS[:2], torch.ones(2, 32), torch.zeros(2, 5, 48))
