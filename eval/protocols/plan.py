"""A protocol as evaluations, one for each part and radius: what was published, and what we add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from configs.files import ConfigError
from configs.load import check_config
from configs.protocol import hash_of
from configs.schema import EvaluateConfig, ProtocolConfig, ProtocolPartConfig, ProtocolSetConfig, TaskConfig
from data.benchmarks.registry import entry
from eval.protocols.places import Places

BARE = "none"
Kind = Literal["clean", "attacked", "adaptive"]


@dataclass(frozen=True)
class Step:
    """One evaluation of a protocol.

    Attributes:
        folder: its name, inside the protocol's.
        part: of the protocol.
        kind: all clean images, those that are attacked as published, or fewer, attacked through the defence by us.
        norm: of the threat.
        eps: its radius in [0, 1] pixels.
        config: of the evaluation.
    """

    folder: str
    part: str
    kind: Kind
    norm: str
    eps: float
    config: EvaluateConfig


def label_of(name: str, config: ProtocolConfig) -> str:
    """``fare-2024@0123456789ab``: a protocol's name, with the hash of all that it says and the catalog says for it."""
    ids = [one.dataset for part in config.parts.values() for one in part.sets.values()]
    return f"{name}@{hash_of(config, [asdict(entry(dataset)) for dataset in ids])}"


def defended(config: ProtocolConfig) -> dict[str, Any]:
    """The defences of a protocol, without the bare encoder."""
    return {name: node for name, node in config.defenses.items() if (node or {}).get("name", name) != BARE}


def steps_of(label: str, config: ProtocolConfig, places: Places, model: Mapping[str, Any], encoder: str) -> list[Step]:
    """The evaluations of a protocol, in order.

    Args:
        label: of the protocol.
        config: checked.
        places: of its sets.
        model: that is judged.
        encoder: its display name.

    Raises:
        ConfigError: every fault of any of them, one a line.
    """
    steps, faults = [], []
    for part, group in config.parts.items():
        sets = {name: one for (of, name), one in places.sets.items() if of == part}
        for folder, kind, eps, said in _said(part, group, config, sets):
            common = {**said, "model": dict(model), "encoder": encoder, "protocol": label}
            try:
                steps.append(Step(folder, part, kind, group.norm, eps, _checked(common)))
            except ConfigError as error:
                faults += str(error).splitlines()
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return steps


def _checked(said: dict[str, Any]) -> EvaluateConfig:
    """The checked evaluation; of its tasks, which are all made alike, one is checked."""
    tasks = {name: TaskConfig(**task) for name, task in said["tasks"].items()}
    config = check_config("evaluate", {**said, "tasks": dict(list(said["tasks"].items())[:1])})
    return replace(config, tasks=tasks)


def _said(
    part: str, group: ProtocolPartConfig, config: ProtocolConfig, sets: Mapping[str, ProtocolSetConfig]
) -> list[tuple[str, Kind, float, dict[str, Any]]]:
    """(folder, kind, eps, plain values of the evaluation) of a part."""
    found: list[tuple[str, Kind, float, dict[str, Any]]] = []
    if sets and group.attacked is not None:
        tasks = {name: _task(one, group, config, group.limit) for name, one in sets.items()}
        said = _common(config, group, group.eps[0]) | {"tasks": tasks, "attacks": {}, "views": []}
        found.append((f"{part}-clean", "clean", 0.0, said))
    few = min((n for n in (group.attacked, group.limit) if n is not None), default=None)
    for eps in group.eps:
        for suffix, attacks, some in _variants(config, sets):
            folder = f"{part}-{radius_of(group.norm, eps)}{suffix}"
            tasks = {name: _task(one, group, config, few) for name, one in some.items()}
            said = _common(config, group, eps) | {"tasks": tasks, "attacks": attacks, "views": list(config.views)}
            found.append((folder, "attacked", eps, said))
        if sets and defended(config) and config.adaptive.attacks:
            limit = min(config.adaptive.limit, few or config.adaptive.limit)
            tasks = {name: _task(one, group, config, limit) for name, one in sets.items()}
            found.append(
                (f"{part}-{radius_of(group.norm, eps)}-adaptive", "adaptive", eps, _through(config, group, eps, tasks))
            )
    return found


def _through(config: ProtocolConfig, group: ProtocolPartConfig, eps: float, tasks: dict[str, Any]) -> dict[str, Any]:
    added = config.adaptive
    return _common(config, group, eps) | {
        "tasks": tasks,
        "defenses": {BARE: {}, **defended(config)},
        "attacks": dict(added.attacks),
        "views": list(added.views),
        "eot_draws": added.eot_draws,
        "score_draws": added.score_draws,
    }


def _variants(
    config: ProtocolConfig, sets: Mapping[str, ProtocolSetConfig]
) -> list[tuple[str, dict[str, Any], dict[str, ProtocolSetConfig]]]:
    """(suffix of the folder, attacks, sets) of those that share their attacks."""
    usual = {name: one for name, one in sets.items() if one.attacks is None}
    own = [(f"-{name}", dict(one.attacks), {name: one}) for name, one in sets.items() if one.attacks is not None]
    return [*([("", dict(config.attacks), usual)] if usual else []), *own]


def _common(config: ProtocolConfig, group: ProtocolPartConfig, eps: float) -> dict[str, Any]:
    same = ("eot_draws", "score_draws", "prior", "allow_mismatch", "blank_prompt", "batch_size", "device", "seed")
    return {
        "threat": {"norm": group.norm, "eps": eps},
        "defenses": dict(config.defenses),
        "examples": 0,
        **{key: getattr(config, key) for key in same},
    }


def _task(
    one: ProtocolSetConfig, group: ProtocolPartConfig, config: ProtocolConfig, limit: int | None
) -> dict[str, Any]:
    return {
        "dataset": one.dataset,
        "shards": one.shards,
        "tune_split": "test",  # a protocol sets nothing on other images, and looks for none
        "ids": one.ids,
        "first": one.first if one.first is not None else group.first,
        "limit": limit,
        "templates": one.templates,
        "logit_scale": group.logit_scale,
        "allow_count_mismatch": config.allow_count_mismatch,
    }


def radius_of(norm: str, eps: float) -> str:
    """``linf-4`` for 4/255, ``l2-0.5``: for names of folders."""
    return f"{norm}-{round(eps * 255, 6):g}" if norm == "linf" else f"{norm}-{eps:g}"
