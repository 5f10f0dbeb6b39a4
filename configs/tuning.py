"""The grid that a recipe of tuning spans, the evaluations it becomes, and what is wrong with it."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import OmegaConf

from configs.families import DEFENSES
from configs.faults import component_faults, probe_offer
from configs.fields import setting_at
from configs.files import ConfigError
from configs.overrides import radius_text
from configs.schema import EvaluateConfig, ScorecardConfig, TuneConfig
from configs.scorecard import BARE, dataset_name
from configs.scorecard import SAME as OF_A_SCORECARD
from modules.units import PIXELS

SAME = tuple(item.name for item in fields(TuneConfig) if item.name in OF_A_SCORECARD)


@dataclass(frozen=True)
class Candidate:
    """A setting that is tried.

    Attributes:
        name: e.g. ``steps=3 t_min=0.9``, the searched keywords with their values.
        settings: the searched keywords.
        node: the whole component.
    """

    name: str
    settings: dict[str, Any]
    node: dict[str, Any]

    @property
    def title(self) -> str:
        """The name with the defence's before it."""
        return f"{self.node['name']} {self.name}"

    @property
    def line(self) -> str:
        """The overrides that set this defence in a scorecard's recipe."""
        said = {"name": self.node["name"], **self.node}
        return " ".join(shlex.quote(f"defense.{key}={self._written(key, value)}") for key, value in said.items())

    def _written(self, key: str, value: Any) -> str:
        setting = setting_at(ScorecardConfig, ("defense", key), {"defense": self.node})
        in_pixels = PIXELS in setting.marks and isinstance(value, float)
        return radius_text(value, setting.norm) if in_pixels else _written(value)


@dataclass(frozen=True)
class Grid:
    """What a search spans.

    Attributes:
        candidates: to be tried, in the grid's order.
        size: settings of the whole grid, possible ones.
        impossible: settings that the defence itself refuses, with its reason.
    """

    candidates: list[Candidate]
    size: int
    impossible: dict[str, str] = field(default_factory=dict)


def grid_of(tree: Mapping[str, Any]) -> Grid:
    """The settings that a tuning's plain values describe; those that contradict themselves are left out and named."""
    offer = probe_offer()
    possible, impossible = [], {}
    for candidate in _product(tree):
        try:
            DEFENSES.build(candidate.node, **{key: offer.get(key) for key in DEFENSES.needs(candidate.node)})
        except ConfigError as error:
            impossible[candidate.name] = str(error)
        else:
            possible.append(candidate)
    return Grid(_drawn(possible, tree["trials"], tree["seed"]), len(possible), impossible)


def _product(tree: Mapping[str, Any]) -> list[Candidate]:
    texts = {key: _texts(values) for key, values in tree["search"].items()}
    found = []
    for choice in itertools.product(*(range(len(values)) for values in tree["search"].values())):
        picked = list(zip(tree["search"], choice, strict=True))
        settings = {key: tree["search"][key][i] for key, i in picked}
        name = " ".join(f"{key}={texts[key][i]}" for key, i in picked)
        found.append(Candidate(name, settings, {**tree["defense"], **settings}))
    return found


def _texts(values: Sequence[Any]) -> list[str]:
    """The values as short as they can be told apart."""
    short = [f"{value:.4g}" if isinstance(value, float) else _written(value) for value in values]
    return short if len(set(short)) == len(short) else [_written(value) for value in values]


def _written(value: Any) -> str:
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value)


def _drawn(candidates: list[Candidate], trials: int, seed: int) -> list[Candidate]:
    """So many of them, in their order: a fair choice that depends on the seed and each one's name alone."""
    if trials == 0 or trials >= len(candidates):
        return candidates
    order = sorted(candidates, key=lambda c: hashlib.blake2b(f"{seed}/{c.name}".encode()).digest())
    chosen = {candidate.name for candidate in order[:trials]}
    return [candidate for candidate in candidates if candidate.name in chosen]


def evaluation_of(tree: Mapping[str, Any], rung: str | None, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The plain values of an evaluation of some settings beside the undefended encoder.

    Args:
        tree: the tuning's plain values.
        rung: on the tuning images, with the attacks of this rung; None takes the judging images and the report's.
        candidates: the settings.
    """
    data, stage = tree["data"], tree["report"] if rung is None else tree["rungs"][rung]
    split = data["split"] if rung is None else data["tune_split"]
    task = {
        "shards": data["shards"] if rung is None else data["tune_shards"] or data["shards"],
        "split": split,
        "tune_split": split,  # nothing is calibrated on the images of the other side
        "limit": stage["limit"],
        "ids": data["ids"] if rung is None else None,
        "templates": data["templates"],
    }
    return {
        **{key: copy.deepcopy(tree[key]) for key in SAME},
        "tasks": {dataset_name(tree): task},
        "defenses": {BARE: {}, **{candidate.title: dict(candidate.node) for candidate in candidates}},
        "attacks": copy.deepcopy(stage["attacks"]),
        "examples": tree["examples"] if rung is None else 0,
    }


def tuning_faults(tree: Any, missing: set[str]) -> list[str]:
    """One line for each thing that is wrong with a tuning's plain values."""
    faults = _search_faults(tree)
    entering = 0 if faults else len(grid_of(tree).candidates)
    if not faults and not entering:
        name, why = next(iter(grid_of(tree).impossible.items()))
        faults.append(f"search: no setting is possible, such as {name}: {why}")
    faults += _rung_faults(tree, entering)
    faults += _data_faults(tree, missing)
    for key, least in (("trials", 0), ("report.limit", 1), *((f"rungs.{name}.limit", 1) for name in tree["rungs"])):
        value: Any = tree
        for part in key.split("."):
            value = value[part]
        faults += [f"{key} is {value}; it must be at least {least}"] if value is not None and value < least else []
    if not 0 <= tree["max_clean_drop"] <= 1:
        faults.append(f"max_clean_drop is {tree['max_clean_drop']}; it is a share of the images, 0 to 1")
    return list(dict.fromkeys([*faults, *_stage_faults(tree, missing)]))


def _search_faults(tree: Any) -> list[str]:
    node, search = tree["defense"], tree["search"]
    if not node.get("name") or node["name"] == BARE:
        return ["defense.name is missing; name the defence to tune, such as defense.name=clipure_diff"]
    faults = [f"defense: {fault}" for fault in DEFENSES.faults({k: v for k, v in node.items() if k not in search})]
    if node["name"] not in DEFENSES.members:
        return faults
    if not search:
        faults.append("search is empty; say which settings to try, such as search.steps=[1,3,10]")
    for key, values in search.items():
        faults += _values_faults(node, key, values)
    if "prior" in DEFENSES.needs(node) and tree["prior"] is None:
        faults.append(f"defense {node['name']!r} needs a prior; say prior=FILE (robustclip prior makes one)")
    if node.get("calibrate") or True in _listed(search.get("calibrate")):
        faults.append(
            "defense.calibrate: the tuning images choose the setting and cannot set a gate as well; search its tau"
        )
    return faults


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else []


def _values_faults(node: Any, key: str, values: Any) -> list[str]:
    place = f"search.{key}"
    if key in node:
        return [f"{place}: defense.{key} is set to {node[key]!r} and searched; leave out one of them"]
    if not isinstance(values, list) or not values:
        return [f"{place} is {values!r}; give a list of values, such as search.{key}=[1,3,10]"]
    if any(value in values[:i] for i, value in enumerate(values)):
        return [f"{place} names a value twice: {values}"]
    alone = set(DEFENSES.faults({"name": node["name"]}))  # what is missing is told elsewhere
    told = [[f for f in DEFENSES.faults({"name": node["name"], key: value}) if f not in alone] for value in values]
    return [f"{place}: {fault}" for fault in dict.fromkeys(fault for faults in told for fault in faults)]


def _rung_faults(tree: Any, entering: int) -> list[str]:
    """Faults of how many settings each rung keeps; ``entering`` is 0 where that is not known."""
    if not tree["rungs"]:
        return ["rungs is empty; name at least one, such as rungs.only={limit: 64, attacks: {apgd: {}}}"]
    faults, last = [], list(tree["rungs"])[-1]
    for name, rung in tree["rungs"].items():
        keep = rung["keep"]
        if keep < 1:
            faults.append(f"rungs.{name}.keep is {keep}; it must be at least 1")
        elif name == last and keep != 1:
            faults.append(f"rungs.{name}.keep is {keep}; the last rung keeps the winner alone, say 1")
        elif entering and keep > entering:
            faults.append(f"rungs.{name}.keep is {keep}, and only {entering} settings enter it; keep fewer")
        entering = min(keep, entering)
    return faults


def _data_faults(tree: Any, missing: set[str]) -> list[str]:
    data = tree["data"]
    same = (data["tune_shards"] or data["shards"], data["tune_split"]) == (data["shards"], data["split"])
    if same and "data.shards" not in missing:
        return [
            f"data.tune_split: {data['tune_split']!r} both chooses and judges; a setting must be judged on other "
            "images, name another split or data.tune_shards"
        ]
    return []


def _stage_faults(tree: Any, missing: set[str]) -> list[str]:
    """Faults of the evaluations, without those of the settings, which are told already."""
    whole = OmegaConf.to_container(OmegaConf.structured(EvaluateConfig), throw_on_missing=False)
    assert isinstance(whole, dict)
    faults = []
    for rung in [*tree["rungs"], None]:
        place = "report" if rung is None else f"rungs.{rung}"
        stage = {**whole, **evaluation_of(tree, rung, [])}
        for fault in component_faults("evaluate", OmegaConf.create(stage), missing):
            faults.append(f"{place}.{fault}" if fault.startswith("attacks") else fault)
    return faults
