"""Which trackers a training may tell its metrics to, and what a recipe may say to them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

TRACKERS: dict[str, dict[str, type]] = {
    "tensorboard": {},
    "wandb": {"project": str, "entity": str, "offline": bool},
    "mlflow": {"experiment": str, "uri": str},
}
"""Options and their kinds by tracker; each tracker is an extra and a package of its own name."""


def tracker_faults(trainer: Mapping[str, Any]) -> list[str]:
    """One line per fault of a recipe's ``trainer`` node that concerns its trackers.

    Args:
        trainer: its plain values.
    """
    names, options = trainer["trackers"], trainer["tracker_options"]
    choice = ", ".join(TRACKERS)
    faults = [
        f"trainer.trackers: unknown tracker {name!r}; choose of: {choice}" for name in names if name not in TRACKERS
    ]
    faults += [
        f"trainer.trackers: {name} is not installed; install it: pip install -e '.[{name}]'"
        for name in names
        if name in TRACKERS and not _is_there(name)
    ]
    for name, said in options.items():
        if name not in names:
            faults.append(f"trainer.tracker_options.{name}: trainer.trackers does not name {name}; add it there")
        elif name in TRACKERS:
            faults += _option_faults(name, said)
    return faults


def _is_there(package: str) -> bool:
    """Whether it can be imported; a folder of that name, in which a tracker keeps its runs, is none."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def _option_faults(name: str, said: Any) -> list[str]:
    place, known = f"trainer.tracker_options.{name}", TRACKERS[name]
    if not isinstance(said, Mapping):
        return [f"{place} is {said!r}; it must be options by name, such as {{{next(iter(known), 'option')}: …}}"]
    choice = f"choose of: {', '.join(known)}" if known else f"{name} has none"
    faults = [f"{place}: unknown option {option!r}; {choice}" for option in said if option not in known]
    return faults + [
        f"{place}.{option} is {value!r}; it must be {'true or false' if known[option] is bool else 'a text'}"
        for option, value in said.items()
        if option in known and not isinstance(value, known[option])
    ]
