"""What is wrong with a prior's recipe beyond the types of its values, and with what it says of a file to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from configs.files import ConfigError

_STRUCTURE = ("network", "diffusion")


def prior_faults(tree: Mapping[str, Any]) -> list[str]:
    """One line per fault of a prior's resolved recipe."""
    from modules.lightning.prior_training import EMASettings
    from modules.prior.network import PriorNetwork

    network = tree["network"]
    parts: dict[str, Callable[[], object]] = {"ema": lambda: EMASettings(**tree["ema"])}
    if network is not None:
        parts["network"] = lambda: PriorNetwork(dim=network["dim_head"], **network)
    faults = []
    for place, build in parts.items():
        try:
            with torch.device("meta"):
                build()
        except ValueError as error:
            faults.append(f"{place}: {error}")
    held_out = tree["data"]["validation"]
    if isinstance(held_out, int) and held_out < 0:
        faults.append(f"data.validation is {held_out}; it must be 0 or more pairs, or a folder")
    return faults


def structure_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``network`` and ``diffusion`` as a recipe says them, from what ``DiffusionPrior.config`` gives."""
    rest = {name: value for name, value in config.items() if name not in ("network", "schedule")}
    return {"network": dict(config["network"]), "diffusion": {**config["schedule"], **rest}}


def refuse_other_structure(said: Mapping[str, Mapping[str, Any] | None], config: Mapping[str, Any], path: str) -> None:
    """Refuse a recipe that says another network or diffusion than the file it goes on from.

    Args:
        said: the recipe's ``network`` and ``diffusion``; None takes the file's.
        config: of the file's prior.
        path: of the file.

    Raises:
        ConfigError: every key that differs, one a line.
    """
    own = structure_of(config)
    faults = [
        f"{part}.{key} is {value!r} but {own[part].get(key)!r} in {path}; leave out '{part}' to take the file's"
        for part in _STRUCTURE
        for key, value in (said[part] or {}).items()
        if own[part].get(key) != value
    ]
    if faults:
        raise ConfigError("\n".join(faults))
