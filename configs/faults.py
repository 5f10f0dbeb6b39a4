"""What is wrong with a config beyond the types of its values, found before anything expensive starts."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import cache
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from configs.families import ATTACKS, DEFENSES, OBJECTIVES
from configs.family import Family
from configs.fields import ATTACK_ROUTING
from configs.files import ConfigError
from configs.heads import head_faults
from configs.inversions import inversion_faults
from configs.names import name_faults
from configs.protocol import protocol_faults
from configs.schema import EvaluateConfig
from configs.strategies import device_faults, spike_faults, strategy_faults
from configs.targets import target_faults
from configs.tasks import task_faults
from configs.trackers import tracker_faults
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat
from modules.views import View

_PROBE_DIM = 8
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # weights stay whole: every checkpoint is judged at full precision


class _ProbeEncoder(ImageEncoder):
    """Stands in for an encoder while a component's settings are tried."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim, self.image_size = _PROBE_DIM, 8

    def encode_image(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :_PROBE_DIM]


def component(node: Mapping[str, Any], name: str, *, without: Container[str] = ()) -> dict[str, Any]:
    """A component's node with its name filled in: ``ttc: {steps: 2}`` is a ``ttc``."""
    said = {key: value for key, value in (node or {}).items() if key not in without}
    return {"name": name, **said}


def component_faults(kind: str, config: Any, missing: set[str]) -> list[str]:
    """One line per fault among the components of a resolved config.

    Args:
        kind: of the recipe.
        config: resolved, missing values still ``???``.
        missing: keys that are missing, already told.
    """
    tree = OmegaConf.to_container(config, throw_on_missing=False)
    assert isinstance(tree, dict)
    check: dict[str, Callable[[Any, set[str]], list[str]]] = {
        "finetune": _finetune_faults,
        "evaluate": _evaluate_faults,
        "scorecard": _scorecard_faults,
        "tune": _tune_faults,
        "perceptual": _perceptual_faults,
        "prior": _prior_faults,
        "protocol": lambda tree, missing: protocol_faults(tree),
        "pretrain": lambda tree, missing: _training_faults("pretrain", tree),
        "embed": lambda tree, missing: [],
    }
    return check[kind](tree, missing) + head_faults(kind, tree)


def _training_faults(kind: str, tree: Any) -> list[str]:
    from modules.lightning.optim import OptimizerSettings

    faults: list[str] = []
    optimizer = dict(tree["optimizer"])
    faults += tried("optimizer", lambda: OptimizerSettings(**{**optimizer, "betas": tuple(optimizer["betas"])}))
    precision = str(tree["trainer"]["precision"])
    if precision not in _PRECISIONS:
        faults.append(f"trainer.precision: {precision!r} is not to be had; choose one of: {', '.join(_PRECISIONS)}")
    faults += tracker_faults(tree["trainer"])
    faults += device_faults(tree["trainer"])
    return faults + spike_faults(tree["trainer"]) + strategy_faults(kind, tree["trainer"])


def _finetune_faults(tree: Any, missing: set[str]) -> list[str]:
    faults = _training_faults("finetune", tree)
    threat, told = _threat(tree, missing)
    faults += told
    faults += family_faults(OBJECTIVES, "objective", tree["objective"], head=object())
    faults += family_faults(ATTACKS, "attack", tree["attack"], threat=threat)
    faults += _start_faults(tree) + target_faults(tree)
    if tree["evaluation"] is not None:
        from configs.evaluation import evaluation_config

        faults += tried("evaluation", lambda: evaluation_config(tree["evaluation"], model=tree["model"]))
    return faults


def _start_faults(tree: Any) -> list[str]:
    objective = OBJECTIVES.members.get(str((tree["objective"] or {}).get("name")))
    starts_at_the_image = (tree["attack"] or {}).get("random_start") is False
    if objective is None or not objective.needs_random_start or not starts_at_the_image:
        return []
    return [
        f"attack.random_start: {objective.__name__}'s gradient is exactly zero at the clean image while the student "
        "equals the original; random_start must stay true"
    ]


def _evaluate_faults(tree: Any, missing: set[str]) -> list[str]:
    threat, faults = _threat(tree, missing)
    if isinstance(tree["eot_draws"], int) and tree["eot_draws"] < 0:
        faults.append(f"eot_draws is {tree['eot_draws']}; it must be at least 1, or 0 to grow")
    if not 0 <= tree["stop_width"] < 1:
        faults.append(f"stop_width is {tree['stop_width']}; it is the width of an interval of accuracies, 0 to 1")
    faults += [f"{s} is empty; an evaluation needs at least one" for s in ("tasks", "defenses") if not tree[s]]
    if tree["views"] and not tree["attacks"]:
        faults.append("attacks is empty; name at least one, or say views=[] too, for clean accuracy alone")
    defended = any((node or {}).get("name", name) != "none" for name, node in (tree["defenses"] or {}).items())
    if tree["attacks"] and not tree["views"] and defended:  # a bare encoder is attacked by itself
        faults.append("views is empty, so that no attack runs; name some, or say attacks={} for clean accuracy alone")
    for name, node in tree["attacks"].items():
        strange = [view for view in (node or {}).get("views", []) if view not in View.__members__]
        faults += [f"attacks.{name}.views: unknown view {view!r}; choose of: {', '.join(View)}" for view in strange]
        said = component(node, name, without=ATTACK_ROUTING)
        faults += family_faults(ATTACKS, f"attacks.{name}", said, threat=threat)
    offered = probe_offer() if tree["defenses"] else {}
    for name, node in tree["defenses"].items():
        said = component(node, name)
        faults += family_faults(DEFENSES, f"defenses.{name}", said, **offered)
        if said.get("name") in DEFENSES.members and "prior" in DEFENSES.needs(said) and tree["prior"] is None:
            faults.append(f"defenses.{name} needs a prior; say prior=FILE (robustclip prior makes one)")
    return faults + name_faults(tree) + task_faults(tree) + _curve_faults(tree) + inversion_faults(tree)


def _scorecard_faults(tree: Any, missing: set[str]) -> list[str]:
    from configs.scorecard import evaluation_of

    whole = OmegaConf.to_container(OmegaConf.structured(EvaluateConfig), throw_on_missing=False)
    assert isinstance(whole, dict)
    faults = _evaluate_faults({**whole, **evaluation_of(tree)}, missing)
    strength = tree["strength"]
    if strength["attack"]:
        threat, _ = _threat(tree, missing)
        faults += family_faults(ATTACKS, "strength.attack", strength["attack"], threat=threat)
    elif any(strength[over] for over in ("eps", "steps", "restarts", "draws")):
        faults.append("strength.attack is missing; name the attack whose strength is varied")
    for over, least in (("steps", 1), ("restarts", 1), ("draws", 1), ("eps", 0)):
        faults += [f"strength.{over}: {value} is below {least}" for value in strength[over] if value < least]
    # the defence is told of under its own key, not under that of the evaluation it becomes
    return list(dict.fromkeys(fault.replace(f"defenses.{tree['defense'].get('name')}", "defense") for fault in faults))


def _tune_faults(tree: Any, missing: set[str]) -> list[str]:
    from configs.tuning import tuning_faults

    return tuning_faults(tree, missing)


def _curve_faults(tree: Any) -> list[str]:
    curve = tree["curve"]
    faults = [f"curve.eps: {eps} is negative" for eps in curve["eps"] if eps < 0]
    if curve["eps"] and not curve["defenses"]:
        faults.append("curve.defenses is empty, so no curve is drawn; name some of the defenses, such as [none]")
    if curve["eps"] and curve["attack"] not in tree["attacks"]:
        faults.append(f"curve.attack: {curve['attack']!r} is none of the attacks: {', '.join(tree['attacks'])}")
    faults += [
        f"curve.defenses: {name!r} is none of the defenses: {', '.join(tree['defenses'])}"
        for name in curve["defenses"]
        if name not in tree["defenses"]
    ]
    return faults


def _prior_faults(tree: Any, missing: set[str]) -> list[str]:
    from configs.priors import prior_faults

    return _training_faults("prior", tree) + prior_faults(tree)


def _perceptual_faults(tree: Any, missing: set[str]) -> list[str]:
    from configs.perceptual import perceptual_faults

    return _training_faults("perceptual", tree) + perceptual_faults(tree, missing)


def _threat(tree: Any, missing: set[str]) -> tuple[Threat, list[str]]:
    if "threat.eps" in missing:
        return Threat(), []
    try:
        return Threat(tree["threat"]["norm"], tree["threat"]["eps"]), []
    except ValueError as error:
        return Threat(), [f"threat: {error}"]


def family_faults(family: Family[Any], place: str, node: Any, **offered: Any) -> list[str]:
    """One line per fault of a component; what it asks for is ``offered``."""
    faults = family.faults(node or {})
    if not faults:
        try:
            family.build(node, **{key: offered.get(key) for key in family.needs(node)})
        except ConfigError as error:
            faults = [str(error)]
    return [f"{place}: {fault}" for fault in faults]


@cache
def probe_offer() -> dict[str, Any]:
    """What a defence may ask for, in miniature: enough to try whether its settings fit together."""
    from modules.prior.diffusion import DiffusionPrior
    from modules.prior.network import PriorNetwork
    from modules.prior.schedule import NoiseSchedule
    from modules.zero_shot.head import ZeroShotHead

    with torch.random.fork_rng(devices=[]):  # weights are drawn, and nobody should notice
        network = PriorNetwork(dim=_PROBE_DIM, depth=1, heads=1, dim_head=_PROBE_DIM, max_text_len=1, num_timesteps=10)
    return {
        "encoder": _ProbeEncoder(),
        "original": _ProbeEncoder(),
        "head": ZeroShotHead(torch.eye(2, _PROBE_DIM), ["this", "that"]),
        "prior": DiffusionPrior(network, NoiseSchedule(timesteps=10)),
        "blank_embedding": torch.ones(_PROBE_DIM),
        "blank_tokens": torch.zeros(1, 1, _PROBE_DIM),
    }


def tried(place: str, build: Callable[[], object]) -> list[str]:
    """The lines of what ``build`` refuses."""
    try:
        build()
    except ValueError as error:
        return [f"{place}: {line}" for line in str(error).splitlines()]
    return []
