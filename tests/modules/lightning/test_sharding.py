"""Which parts of a model are gathered one at a time."""

from __future__ import annotations

import torch
from torch import nn

from modules.encoders.tiny import load_tiny
from modules.lightning.sharding import blocks_of, gathered, is_sharded, local, shared_weights, whole_state
from modules.prior.network import PriorNetwork


def test_a_towers_blocks_are_its_layers() -> None:
    visual = load_tiny(weights=False).image.visual
    names = {name for name, module in visual.named_modules() if any(module is block for block in blocks_of(visual))}
    assert names == {f"transformer.resblocks.{number}" for number in range(4)}


def test_lists_of_lists_are_looked_into_and_what_blocks_share_is_known() -> None:
    network = PriorNetwork(dim=8, depth=3, heads=2, dim_head=4, max_text_len=2, num_timesteps=10)
    blocks = blocks_of(network)
    kinds = [type(block).__name__ for block in blocks]
    assert kinds.count("Attention") == 3 and kinds.count("FeedForward") == 3
    shared = shared_weights(blocks)
    assert [name for name, p in network.named_parameters() if p in shared] == [
        "causal_transformer.layers.0.0.rotary_emb.freqs"
    ]
    assert not any(parameter.requires_grad for parameter in shared)


def test_modules_without_weights_are_no_blocks() -> None:
    assert blocks_of(nn.ModuleDict({"a": nn.Sequential(nn.ReLU(), nn.Linear(2, 2), nn.Identity())})) != []
    assert [type(block) for block in blocks_of(nn.ModuleDict({"a": nn.Sequential(nn.ReLU(), nn.Linear(2, 2))}))] == [
        nn.Linear
    ]


def test_whole_weights_are_left_alone() -> None:
    module = nn.Linear(3, 2)
    assert not is_sharded(module)
    assert local(module.weight) is module.weight
    with gathered(module):
        state = whole_state(module)
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())
    state["weight"].zero_()
    assert module.weight.abs().max() > 0, "the state shares the module's memory"
