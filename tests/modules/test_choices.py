"""A misspelled choice is refused wherever ``modules`` takes one, not only where a recipe names it."""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import pytest

import modules
from modules.attacks import APGD
from modules.choices import check_choice
from modules.perturb import Threat

Case = tuple[Callable[..., Any], str, tuple[str, ...]]
"""What is called, the argument, and its choices."""


class _Names(dict[str, Any]):
    """Names of a module; those imported for annotations alone are Any."""

    def __missing__(self, name: str) -> Any:
        return Any


def _hint(annotation: Any, names: Mapping[str, Any]) -> Any:
    return eval(annotation, {}, names) if isinstance(annotation, str) else annotation


def _choices(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(choice for inner in get_args(hint) for choice in _choices(inner))


def _public(name: str) -> Iterator[Callable[..., Any]]:
    for key, member in vars(importlib.import_module(name)).items():
        if key.startswith("_") or getattr(member, "__module__", None) != name:
            continue
        written_here = str(getattr(getattr(member, "__init__", None), "__module__", "")).startswith("modules")
        if inspect.isfunction(member) or (inspect.isclass(member) and written_here):
            yield member


def _cases() -> Iterator[Case]:
    for info in pkgutil.walk_packages(modules.__path__, "modules."):
        for member in _public(info.name):
            homes = member.__mro__ if inspect.isclass(member) else (member,)
            names = _Names(vars(builtins))
            for home in reversed(homes):
                names |= vars(sys.modules[home.__module__])
            for parameter in inspect.signature(member).parameters.values():
                if choices := _choices(_hint(parameter.annotation, names)):
                    yield member, parameter.name, choices


CASES = list(_cases())


@pytest.mark.parametrize(
    ("member", "name", "choices"), CASES, ids=[f"{member.__qualname__}-{name}" for member, name, _ in CASES]
)
def test_an_unknown_choice_is_refused_before_anything_else(
    member: Callable[..., Any], name: str, choices: tuple[str, ...]
) -> None:
    positional, keywords = [], {name: "nope"}
    for parameter in inspect.signature(member).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(None)
        elif parameter.default is parameter.empty and parameter.name != name:
            keywords[parameter.name] = None  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=rf"^unknown (\w+ )*{name} 'nope'; choose one of: {', '.join(choices)}$"):
        member(*positional, **keywords)


def test_the_walk_finds_attacks_defenses_priors_functions_and_records() -> None:
    found = {(member.__name__, name) for member, name, _ in CASES}
    assert len(found) > 35
    assert found >= {
        ("APGD", "loss"),
        ("PGD", "keep"),
        ("TTC", "direction"),
        ("CLIPureDiff", "step"),
        ("DiffusionPrior", "prediction"),
        ("JointThreat", "norm"),
        ("convert", "attention"),
        ("cut_at", "direction"),
        ("OptimizerSettings", "schedule"),
        ("OddOneOut", "target"),
    }


def test_every_choice_is_taken_and_a_value_of_another_type_is_refused() -> None:
    for loss in ("ce", "dlr", "margin", "dlr_targeted", "margin_targeted"):
        assert APGD(Threat(), loss=loss).loss == loss
    for odd in (None, 3, ["ce"], "CE"):
        with pytest.raises(ValueError, match="unknown loss"):
            check_choice("loss", odd, Literal["ce", "dlr"])
