"""A ViT whose last block computes the class token alone answers as open_clip's, with gradients and after updates."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import open_clip
import pytest
import torch
from torch import Tensor, nn

from launch.bench.models import as_made
from modules.counting import flops_of, kept_bytes
from modules.encoders.class_token import ClassTokenBlock
from modules.encoders.quick import quicken
from modules.perceptual.low_rank import add_low_rank

LAYERS, WIDTH, TOKENS = 3, 32, 17


def tower(**settings: object) -> nn.Module:
    """A small image tower as open_clip makes it, in double precision."""
    torch.manual_seed(0)
    cfg = {"image_size": 32, "layers": LAYERS, "width": WIDTH, "head_width": 8, "patch_size": 8, **settings}
    model = open_clip.model.CLIP(
        16,
        vision_cfg=cfg,  # pyright: ignore[reportArgumentType]
        text_cfg={"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1},  # pyright: ignore[reportArgumentType]
    )
    return model.visual.double()


def both(**settings: object) -> tuple[nn.Module, nn.Module]:
    plain = tower(**settings)
    quick = copy.deepcopy(plain)
    quicken(quick)
    return quick, plain


def last_block(tower: nn.Module) -> nn.Module:
    return tower.get_submodule(f"transformer.resblocks.{LAYERS - 1}")


def pictures() -> Tensor:
    return torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def answers(tower: nn.Module) -> list[Tensor]:
    """Embeddings, and gradients of the pixels and of every weight that is trained."""
    x = pictures().requires_grad_()
    z = tower(x)
    return [z, *torch.autograd.grad(z.cos().sum(), [x, *(p for p in tower.parameters() if p.requires_grad)])]


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("settings", [{}, {"ls_init_value": 0.1}, {"final_ln_after_pool": True}, {"no_ln_pre": True}])
def test_embeddings_and_gradients_are_those_of_open_clip(settings: dict[str, object], trained: bool) -> None:
    quick, plain = both(**settings)
    assert isinstance(last_block(quick), ClassTokenBlock)
    assert quick.state_dict().keys() == plain.state_dict().keys()
    for one in (quick, plain):
        one.requires_grad_(trained)
    torch.testing.assert_close(answers(quick), answers(plain), rtol=1e-10, atol=1e-12)


def test_with_activations_computed_anew_the_gradients_are_the_same() -> None:
    quick, plain = both()
    quick.set_grad_checkpointing(True)  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(answers(quick), answers(plain), rtol=1e-10, atol=1e-12)


def test_under_autocast_it_answers_as_open_clip_up_to_half_precision() -> None:
    quick, plain = (one.float() for one in both())
    x = pictures().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(quick(x), plain(x), rtol=0.05, atol=0.05)


def test_ten_updates_end_at_the_weights_of_open_clip() -> None:
    quick, plain = both()
    ends = []
    for one in (quick, plain):
        optimizer = torch.optim.AdamW(one.parameters(), lr=1e-2)
        for _ in range(10):
            optimizer.zero_grad()
            one(pictures()).cos().sum().backward()
            optimizer.step()
        ends.append(one.state_dict())
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("asked", [torch.no_grad, torch.enable_grad])
def test_without_gradients_every_bit_is_open_clips(asked: Callable[[], torch.no_grad]) -> None:
    quick, plain = (one.float().eval().requires_grad_(False) for one in both())
    with asked():
        assert torch.equal(quick(pictures().float()), plain(pictures().float()))


@pytest.mark.parametrize(
    "settings", [{"pool_type": "avg"}, {"output_tokens": True}, {"attentional_pool": True, "attn_pooler_heads": 4}]
)
def test_a_tower_that_reads_other_tokens_computes_them(settings: dict[str, object]) -> None:
    quick, plain = both(**settings)
    assert not isinstance(last_block(quick), ClassTokenBlock)
    x = pictures().requires_grad_()
    torch.testing.assert_close(quick(x), plain(x))


def test_lora_beside_its_attention_has_it_go_open_clips_way() -> None:
    quick, plain = both()
    for one in (quick, plain):
        torch.manual_seed(0)
        add_low_rank(one)
        one.double().eval()
    torch.testing.assert_close(answers(quick), answers(plain))


def test_of_the_last_block_only_keys_and_values_are_computed_and_kept_for_all_tokens() -> None:
    quick, plain = both()
    for one in (quick, plain):
        one.requires_grad_(False)
    x = pictures().requires_grad_()
    spared = flops_of(lambda: plain(x)) - flops_of(lambda: quick(x))
    products = 2 * WIDTH * WIDTH * (1 + 1 + 8)  # queries, the way out, and a hidden layer four times as wide
    looked = 2 * 2 * WIDTH * TOKENS  # products of queries with keys, and of weights with values
    assert spared == 2 * (TOKENS - 1) * (products + looked)
    assert kept_bytes(lambda: quick(x), [quick]) < 0.85 * kept_bytes(lambda: plain(x), [plain])


def test_a_quick_tower_can_be_copied_pickled_and_made_plain_again() -> None:
    quick, plain = both()
    for copied in (copy.deepcopy(quick), pickle.loads(pickle.dumps(quick))):
        assert type(last_block(copied)) is ClassTokenBlock
        assert all(map(torch.equal, answers(copied), answers(quick)))
    assert {type(part) for part in as_made(quick).modules()} == {type(part) for part in plain.modules()}
