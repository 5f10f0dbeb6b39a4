from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from modules.encoders.tiny import load_tiny
from modules.perceptual.low_rank import LowRank, LowRankAttention, LowRankLinear, add_low_rank, merge_low_rank
from tests.modules.toys import ConvEncoder, images

X = images(4, size=32)


def trained(tower: nn.Module) -> nn.Module:
    """As after some steps: the second matrix is no longer zero."""
    generator = torch.Generator().manual_seed(0)
    for layer in tower.modules():
        if isinstance(layer, LowRank):
            nn.init.normal_(layer.up, std=0.5, generator=generator)
    return tower.eval()


def test_beside_a_linear_layer_stands_the_papers_product() -> None:
    layer = LowRankLinear(nn.Linear(6, 5), rank=2, alpha=3.0, dropout=0.0)
    trained(layer)
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    wanted = x @ (layer.layer.weight + 3.0 / 2 * layer.up @ layer.down).T + layer.layer.bias
    assert torch.allclose(layer(x), wanted, atol=1e-6)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_without_a_product_is_the_attention_it_stands_beside(batch_first: bool) -> None:
    attention = nn.MultiheadAttention(16, 4, batch_first=batch_first).eval()
    mine = LowRankAttention(attention, rank=2, alpha=1.0, dropout=0.3).eval()
    x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(2))
    mask = torch.full((5, 5) if batch_first else (3, 3), -torch.inf).triu(1)
    wanted = attention(x, x, x, need_weights=False, attn_mask=mask)[0]
    assert torch.allclose(mine(x, x, x, attn_mask=mask)[0], wanted, atol=1e-6)
    with pytest.raises(ValueError, match="this attention is not"):
        mine(x, x.clone(), x)


@pytest.mark.parametrize("kind", ["vit", "convnext", "timm vit"])
def test_merged_weights_answer_as_the_product_does_and_keep_their_names(kind: str) -> None:
    if kind == "vit":
        tower = copy.deepcopy(load_tiny().image.visual)
    else:
        name = "test_convnext" if kind == "convnext" else "test_vit"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            tower = timm.create_model(name, pretrained=False, num_classes=8)
    size = 32 if kind == "vit" else 160
    x, names = images(2, size=size), set(tower.state_dict())
    before = tower.eval()(x)
    added = add_low_rank(tower, dropout=0.3)
    assert added and torch.allclose(tower.eval()(x), before, atol=1e-5), "B is zero at first"
    assert all(part in ("attn", "qkv") for part in {name.rpartition(".")[2] for name in added}) == (kind != "convnext")
    wanted = trained(tower)(x)
    assert not torch.equal(wanted, before)
    assert torch.allclose(merge_low_rank(tower)(x), wanted, atol=1e-4 * float(wanted.detach().abs().max()))
    assert set(tower.state_dict()) == names


def test_only_the_products_are_trained() -> None:
    tower = copy.deepcopy(load_tiny().image.visual)
    add_low_rank(tower)
    wanting = {name for name, parameter in tower.named_parameters() if parameter.requires_grad}
    assert wanting and all(name.endswith((".down", ".up")) for name in wanting)


def test_a_tower_with_nothing_to_stand_beside_is_refused() -> None:
    with pytest.raises(ValueError, match="none is here"):
        add_low_rank(ConvEncoder().body)
