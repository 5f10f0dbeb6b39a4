"""A fine-tuning recipe for any CLIP: the shipped one that is nearest, or FARE's defaults; what is ours is labelled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from configs.files import ConfigError
from configs.load import read_recipe, recipe_names, recipe_path
from configs.yaml_file import dump_yaml

_SIZES = {"ViT-H": "fare_vit_h14_eps2", "ViT-g": "fare_vit_g14_eps2", "ViT-bigG": "fare_vit_g14_eps2"}
"""Whose steps and batch an architecture of such a size takes; the others take those of ViT-L/14."""
_TOOK = "# took: "
_PUBLISHED_STEP = {2.0, 4.0}  # radii in 1/255 at which FARE was published, with steps of 1/255


@dataclass(frozen=True)
class Tuned:
    """A recipe and how it came about.

    Attributes:
        said: its values, as a recipe file has them.
        origin: name of the shipped recipe that it is made of.
        ours: what no publication of the method says, one a line.
        expect: what the shipped recipe expects, where nothing was changed.
    """

    said: dict[str, Any]
    origin: str
    ours: list[str] = field(default_factory=list)
    expect: str = "no published number of this recipe is known to us"


def tuned_recipe(model: str, pretrained: str | None, *, objective: str, eps: float) -> Tuned:
    """The recipe for a model: of the shipped ones that of its architecture, weights and radius, as near as there is.

    Args:
        model: name of the base.
        pretrained: tag of its weights; None takes those of the recipe.
        objective: ``fare`` or ``tecoa``.
        eps: radius in 1/255.

    Raises:
        ConfigError: no recipe of that objective, or weights have to be named.
    """
    shipped = {name: read_recipe("finetune", name) for name in recipe_names("finetune")}
    shipped = {name: said for name, said in shipped.items() if said["objective"]["name"] == objective}
    if not shipped:
        raise ConfigError(f"no recipe has objective.name={objective}; choose fare or tecoa")
    own = {name: said for name, said in shipped.items() if said["model"]["name"] == model}
    if own:
        name = min(own, key=lambda name: (_other_weights(own[name], pretrained), abs(_radius(own[name]) - eps), name))
        return _changed(name, own[name], model, pretrained, eps)
    like = next((name for size, name in _SIZES.items() if model.startswith(size) and name in shipped), "")
    name = like or min(
        (name for name, said in shipped.items() if said["model"]["name"] == "ViT-L-14"),
        key=lambda name: abs(_radius(shipped[name]) - eps),
    )
    return _changed(name, shipped[name], model, pretrained, eps)


def _other_weights(said: Mapping[str, Any], pretrained: str | None) -> bool:
    return pretrained is not None and said["model"].get("pretrained", "") != pretrained


def _radius(said: Mapping[str, Any]) -> float:
    """Of a shipped recipe, in 1/255."""
    found = re.fullmatch(r"\$\{px:([\d.]+)\}", str(said["threat"]["eps"]))
    assert found, "shipped recipes say their radius as ${px:4}"
    return float(found[1])


def _changed(name: str, said: dict[str, Any], model: str, pretrained: str | None, eps: float) -> Tuned:
    """A shipped recipe for other weights, another architecture or another radius."""
    ours = []
    base, radius = said["model"], _radius(said)
    if model != base["name"]:
        ours.append(f"{model} takes the settings of {base['name']}, unchanged; nobody published it with them")
        said["model"] = {"name": model, **({"pretrained": pretrained} if pretrained else {})}
    elif _other_weights(said, pretrained):
        ours.append(f"the weights {pretrained}; the recipe was made for {base.get('pretrained') or 'the model alone'}")
        said["model"] = {"name": model, "pretrained": pretrained}
    if eps != radius:
        said["threat"] = {**said["threat"], "eps": f"${{px:{eps:g}}}"}
        ours += _other_step(said, eps)
    if model == "tiny":
        ours.append("all settings: the embedded model is a stand-in")
    if said.pop("evaluation", None) is not None:
        ours.append("no evaluation of checkpoints: two scorecards judge base and result")
    return Tuned(said, name, ours) if ours else Tuned(said, name, expect=_expected(name))


def _other_step(said: dict[str, Any], eps: float) -> list[str]:
    """The inner attack at a radius that the recipe was not made for; steps stay a quarter of it."""
    if eps in _PUBLISHED_STEP or eps == 0:
        return []
    step = eps / 4 if said["model"]["name"] != "tiny" else 1.5 * eps / 4
    said["attack"] = {**said["attack"], "step_size": f"${{px:{step:g}}}"}
    return [f"steps of {step:g}/255 at this radius, in the proportion of the recipe for 4/255"]


def _expected(name: str) -> str:
    text = recipe_path("finetune", name).read_text(encoding="utf-8")
    found = re.search(r"expect: (.*)", text)
    return found[1].strip() if found else ""


def shortened(said: dict[str, Any], steps: int | None = None) -> list[str]:
    """Give a recipe another number of steps, warm-up and checkpoints in proportion; what was done, in words.

    Args:
        said: the recipe's values, which change.
        steps: so many; None makes a trial of a hundredth of them, of the embedded model of a third.
    """
    optimizer = said["optimizer"]
    before = optimizer["max_steps"]
    trial = before // (3 if said["model"]["name"] == "tiny" else 100)
    optimizer["max_steps"] = few = max(1, trial if steps is None else steps)
    optimizer["warmup_steps"] = min(few - 1, round(optimizer["warmup_steps"] * few / before))
    trainer = said.setdefault("trainer", {})
    trainer["checkpoint_every"] = max(1, min(trainer.get("checkpoint_every", 1000), few // 2))
    if few == before:
        return []
    return [f"{few:,} steps instead of {before:,}" + (": a trial, not the method" if few < before else "")]


def recipe_text(tuned: Tuned, *, cost: str) -> str:
    """The recipe as a file that ``robustclip finetune`` runs; its comment says where it is from and what it costs.

    Args:
        tuned: the recipe.
        cost: in words.
    """
    said = tuned.said
    model = " ".join(filter(None, (said["model"]["name"], said["model"].get("pretrained", ""))))
    paper = "FARE (arXiv:2402.12336)" if said["objective"]["name"] == "fare" else "TeCoA (arXiv:2212.07016)"
    lines = [
        f"# {paper} for {model}, written by robustclip robustify after the recipe {tuned.origin}.",
        "#   robustclip finetune recipe.yaml",
        *(f"# ours: {line}" for line in tuned.ours),
        f"# cost: {cost}.   expect: {tuned.expect}",
    ]
    return with_body("\n".join(lines), tuned)


def with_body(text: str, tuned: Tuned) -> str:
    """A written recipe whose comment stays and whose values are those of another."""
    body = dump_yaml(tuned.said, default_flow_style=None, width=120)
    return "\n".join([*_comment(text), body])


def with_took(text: str, took: str) -> str:
    """A written recipe whose comment says how long it took here."""
    comment = _comment(text)
    body = text.splitlines()[len(comment) :]
    return "\n".join([*(line for line in comment if not line.startswith(_TOOK)), _TOOK + took, *body]) + "\n"


def _comment(text: str) -> list[str]:
    return list(takewhile(lambda line: line.startswith("#"), text.splitlines()))
