"""Weights of which every process holds a part: how they are cut up, and how they become whole again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The parts that are gathered one at a time: members of a module's lists and sequences, such as layers.

    Lists of lists are looked into; a member that is no list itself stays in one piece.
    """
    found: list[nn.Module] = []
    for child in module.children():
        if isinstance(child, (nn.ModuleList, nn.Sequential)):
            found += _members(child)
        else:
            found += blocks_of(child)
    return found


def _members(container: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for member in container.children():
        if type(member) in (nn.ModuleList, nn.Sequential):
            found += _members(member)
        elif next(member.parameters(), None) is not None:
            found.append(member)
    return found


def shard(module: nn.Module, mesh: Any) -> None:
    """Cut the weights of a module, block by block, into one part per process (FSDP2); twice is the same as once.

    What several blocks share stays whole on every process, and must not be trained.

    Args:
        module: must be called to be used, as its weights are gathered before ``forward``.
        mesh: torch's DeviceMesh with a dimension of all processes.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(module, FSDPModule):
        return
    blocks = blocks_of(module)
    shared = shared_weights(blocks)
    assert not any(parameter.requires_grad for parameter in shared), "shared weights are trained"
    for part in [*blocks, module]:
        fully_shard(part, mesh=mesh, reshard_after_forward=False, ignored_params=shared)


def shared_weights(blocks: list[nn.Module]) -> set[nn.Parameter]:
    """Parameters that several of the blocks have."""
    times = Counter(parameter for block in blocks for parameter in block.parameters())
    return {parameter for parameter, number in times.items() if number > 1}


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Weights that FSDP2 has cut up are whole inside, and stay so until the next backward pass has used them.

    An attack reads them at every step: without this each of its steps would gather them anew.  Nothing happens to
    other modules.
    """
    from torch.distributed.fsdp import FSDPModule

    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_backward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_backward(True, recurse=False)


def is_sharded(module: nn.Module) -> bool:
    """Whether this process holds only a part of the module's weights."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) or _is_zero3(parameter) for parameter in module.parameters())


def _is_zero3(parameter: Tensor) -> bool:
    return hasattr(parameter, "ds_tensor")


def local(parameter: Tensor) -> Tensor:
    """This process's part of a parameter, in the memory of the parameter itself."""
    from torch.distributed.tensor import DTensor

    if _is_zero3(parameter):
        return parameter.ds_tensor  # pyright: ignore[reportAttributeAccessIssue]
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


@torch.no_grad()
def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module with whole tensors, its own memory; every process must ask."""
    from torch.distributed.fsdp import FSDPModule

    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    return {name: _whole(value) for name, value in module.state_dict(keep_vars=True).items()}


def _whole(value: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    if isinstance(value, DTensor):
        return value.full_tensor().detach().clone()
    if not _is_zero3(value):
        return value.detach().clone()
    import deepspeed  # pyright: ignore[reportMissingImports]

    with deepspeed.zero.GatheredParameters([value]):
        return value.detach().clone()
