"""What DeepSpeed's ZeRO keeps in flat parts, as plain tensors: out for a checkpoint, and in again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_AVERAGES = ("exp_avg", "exp_avg_sq")


def whole_adam_state(zero: Any, trained: Sequence[Sequence[nn.Parameter]]) -> dict[str, Any]:
    """The state dictionary of AdamW on one process; every process must ask.

    Args:
        zero: DeepSpeed's optimizer.
        trained: the parameters of each group, in the order of the optimizer that it was made of.
    """
    from deepspeed.utils import safe_get_full_optimizer_state  # pyright: ignore[reportMissingImports]

    parameters = [parameter for group in trained for parameter in group]
    step = next((state["step"] for state in zero.optimizer.state.values() if "step" in state), None)
    state: dict[int, Any] = {}
    if step is not None:
        _link(zero)
        for number, parameter in enumerate(parameters):
            averages: dict[str, Any] = {name: safe_get_full_optimizer_state(parameter, name) for name in _AVERAGES}
            state[number] = {"step": step.clone(), **{name: whole.clone() for name, whole in averages.items()}}
    groups, first = [], 0
    for settings, group in zip(zero.optimizer.param_groups, trained, strict=True):
        numbers = list(range(first, first + len(group)))
        groups.append({**{key: value for key, value in settings.items() if key != "params"}, "params": numbers})
        first += len(group)
    return {"state": state, "param_groups": groups}


@torch.no_grad()
def load_adam_state(zero: Any, trained: Sequence[Sequence[nn.Parameter]], saved: Mapping[str, Any]) -> None:
    """Take up a state dictionary of AdamW; arguments as in ``whole_adam_state``.

    Args:
        zero: DeepSpeed's optimizer.
        trained: the parameters of each group.
        saved: of any number of processes.
    """
    for group, settings in zip(zero.optimizer.param_groups, saved["param_groups"], strict=True):
        group.update({key: value for key, value in settings.items() if key != "params"})
    if not saved["state"]:
        return
    flat = zero.fp32_partitioned_groups_flat if _cuts_weights(zero) else zero.single_partition_of_fp32_groups
    for part in flat:
        averages = {name: torch.zeros_like(part) for name in _AVERAGES}
        zero.optimizer.state[part] = {"step": saved["state"][0]["step"].clone(), **averages}
    _link(zero)
    for number, parameter in enumerate(parameter for group in trained for parameter in group):
        for name in _AVERAGES:
            _put_average(parameter, name, saved["state"][number][name])


@torch.no_grad()
def load_weights(module: nn.Module, zero: Any, state: Mapping[str, Tensor]) -> None:
    """Take up whole weights, here and in the copy that DeepSpeed steps on.

    Args:
        module: whose weights these are.
        zero: DeepSpeed's optimizer.
        state: as ``state_dict`` of the module on one process.
    """
    if not _cuts_weights(zero):
        module.load_state_dict(state)
        zero.refresh_fp32_params()
        return
    from deepspeed.utils import safe_set_local_fp32_param  # pyright: ignore[reportMissingImports]

    own = module.state_dict(keep_vars=True)
    assert own.keys() == state.keys(), "a checkpoint of another module"
    for name, value in own.items():
        if not hasattr(value, "ds_tensor"):
            value.copy_(state[name])
            continue
        part = _my_part(value, state[name])
        value.ds_tensor.copy_(part)
        if value.requires_grad:
            safe_set_local_fp32_param(value, part)


def _cuts_weights(zero: Any) -> bool:
    return hasattr(zero, "fp32_partitioned_groups_flat")


def _link(zero: Any) -> None:
    """Tell every parameter where its states lie.

    DeepSpeed does so after the first step of the first group of parameters, when others have no states yet.
    """
    if not _cuts_weights(zero):
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()


def _put_average(parameter: nn.Parameter, name: str, whole: Tensor) -> None:
    from deepspeed.utils import (  # pyright: ignore[reportMissingImports]
        safe_set_full_optimizer_state,
        safe_set_local_optimizer_state,
    )

    if hasattr(parameter, "ds_tensor"):
        safe_set_local_optimizer_state(parameter, _my_part(parameter, whole), name)
    else:
        safe_set_full_optimizer_state(parameter, whole.to(parameter.device), name)


def _my_part(parameter: Any, whole: Tensor) -> Tensor:
    """This process's part of a whole tensor, with zeros behind its end."""
    size, rank = parameter.ds_tensor.numel(), torch.distributed.get_rank()
    flat = whole.flatten().to(parameter.ds_tensor.device)
    part = flat[rank * size : (rank + 1) * size]
    return torch.cat([part, part.new_zeros(size - len(part))])
