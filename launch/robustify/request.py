"""What was asked for: model, data and settings become checked configs of a training and of two scorecards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from configs.family import put
from configs.fields import overlaid
from configs.files import ConfigError
from configs.load import check_config, read_recipe
from configs.overrides import in_full, keys_of, override, parse_overrides, value_of
from configs.schema import FinetuneConfig, ScorecardConfig
from data.home import at_home
from launch.robustify.tuned import Tuned, shortened, tuned_recipe

TINY = "tiny"
BUDGETS = ("quick", "standard", "thorough")
_SCORECARD = "scorecard."
_LITTLE = (
    "data.limit=96",
    "attacks.apgd_ce.steps=20",
    "attacks.apgd_t.steps=20",
    "attacks.apgd_t.targets=3",
    "attacks.square.queries=100",
    "strength.limit=24",
)
"""What ``--quick`` makes smaller in the quick scorecard."""


@dataclass
class RobustifyConfig(FinetuneConfig):
    """``robustclip robustify``: everything that decides its numbers, and as in any training where it is computed.

    Attributes:
        base: the scorecard of the base; that of the result differs in its weights and name.
        budget: name of the scorecard's recipe.
    """

    base: ScorecardConfig = field(default_factory=ScorecardConfig)
    budget: str = "quick"


@dataclass(frozen=True)
class Request:
    """A checked request.

    Attributes:
        tuned: the recipe of the training.
        finetune: the training, checked.
        config: all of it, checked.
    """

    tuned: Tuned
    finetune: FinetuneConfig
    config: RobustifyConfig

    @property
    def name(self) -> str:
        """Of the result, for files: ``ViT-L-14-fare4``."""
        config = self.finetune
        model = "".join(c if c.isalnum() or c in "-_." else "-" for c in config.model.name).strip("-.")
        return f"{model}-{config.objective['name']}{255 * config.threat.eps:g}"


def read_request(model: str, words: Sequence[str], *, quick: bool, budget: str | None) -> Request:
    """A request, every fault of it told together.

    Args:
        model: name of the base.
        words: the tag of its weights first, where it is said, and key=value.
        quick: a trial.
        budget: of the scorecards.

    Raises:
        ConfigError: every fault, one a line.
    """
    name = known_name(model)
    tag, words = _tag_of(words)
    faults = [f"{word!r} is no key=value" for word in words if "=" not in word]
    faults += [f"--budget {budget}: choose one of: {', '.join(BUDGETS)}"] if budget not in (None, *BUDGETS) else []
    if faults:
        raise ConfigError("\n".join(faults))
    told, judging = _told(name, words)
    tuned = _tuned(name, tag, told, quick)
    finetune, faults = _checked(lambda: check_config("finetune", tuned.said))
    budget = budget or "quick"
    less = list(_LITTLE) if quick and budget == "quick" else []
    base, more = _checked(lambda: _scorecard(tuned, finetune, budget, [*less, *judging]))
    if faults + more:
        raise ConfigError("\n".join(faults + [f"scorecard: {line}" for line in more]))
    training = {part.name: getattr(finetune, part.name) for part in fields(FinetuneConfig)}
    return Request(tuned, finetune, RobustifyConfig(**training, base=base, budget=budget))


def known_name(model: str) -> str:
    """The name of a model as open_clip has it: ``ViT-L/14`` is ``ViT-L-14``.

    Raises:
        ConfigError: a file, or a model without a text tower.
    """
    if model.startswith("timm/"):
        raise ConfigError(f"{model} has no text tower to judge it by; fine-tune it with robustclip finetune")
    if ":" in model or model == TINY:
        return model
    if Path(model).suffix in (".pt", ".pth", ".bin", ".safetensors", ".ckpt") or Path(model).is_file():
        raise ConfigError(f"{model} is a file; name the model that it belongs to, and say model.checkpoint={model}")
    return model.replace("/", "-")


def _tag_of(words: Sequence[str]) -> tuple[str | None, list[str]]:
    if words and "=" not in words[0]:
        return words[0], list(words[1:])
    return None, list(words)


def _told(name: str, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides of the training and of the scorecards; the embedded model knows its data."""
    faults: list[str] = []
    own = [word.removeprefix(_SCORECARD) for word in words if word.startswith(_SCORECARD)]
    test = [f"data.shards={word.partition('=')[2]}" for word in words if word.startswith("test=")]
    judging = in_full("scorecard", [*own, *test])
    training = in_full("finetune", [word for word in words if not word.startswith((_SCORECARD, "test="))])
    if name == TINY and not value_of(training, "data.shards"):
        training.append("data.shards=digits")
    data = value_of(training, "data.shards")
    if not data:
        faults.append("data is missing; say data=SHARDS, the images to train on")
    if not keys_of(judging) & {"data", "data.shards"}:
        if data != "digits" and not (data and (at_home(data) / "test").is_dir()):
            faults.append("test is missing; say test=FOLDER, labelled images to judge base and result by")
        judging.insert(0, override("data.shards", data or ""))
    if faults:
        raise ConfigError("\n".join(faults))
    return training, judging


def _tuned(name: str, tag: str | None, words: Sequence[str], quick: bool) -> Tuned:
    """The recipe with everything that was said put into it."""
    values = {".".join(path): value for path, value in parse_overrides("finetune", {}, words)}
    tag = tag if tag is not None else values.get("model.pretrained")
    radius = _levels(values.get("threat.eps", "${px:4}"))
    tuned = tuned_recipe(name, tag, objective=str(values.get("objective.name", "fare")), eps=round(radius, 6))
    if not (tuned.said["model"].get("pretrained") or ":" in name or name == TINY):
        tuned.said["model"]["pretrained"] = _only_tag(name)
    steps = values.get("optimizer.max_steps")
    faults = ["steps: a number of at least 1"] if isinstance(steps, int) and steps < 1 else []
    if not radius > 0:
        faults.append("eps: a number above 0; at 0 there is nothing to be robust against")
    if faults:
        raise ConfigError("\n".join(faults))
    if quick or (isinstance(steps, int) and "optimizer.warmup_steps" not in values):
        tuned.ours.extend(shortened(tuned.said, steps if isinstance(steps, int) else None))
    for path, value in parse_overrides("finetune", tuned.said, words):
        put(tuned.said, path, value)
    return tuned


def _levels(eps: Any) -> float:
    """A radius of an override, in 1/255."""
    if isinstance(eps, str) and (found := re.fullmatch(r"\$\{px:\s*([\d.]+)\s*\}", eps)):
        return float(found[1])
    if isinstance(eps, int | float) and not isinstance(eps, bool):
        return 255 * float(eps)
    raise ConfigError(f"threat.eps={eps}: a radius is a number such as 4, 4/255 or 0.0157")


def _only_tag(name: str) -> str:
    """The tag of a model's weights, where there is only one."""
    tags = _tags(name)
    if len(tags) == 1:
        return tags[0]
    raise ConfigError(f"{name} has several weights; say which: {', '.join(tags)}")


def _tags(name: str) -> list[str]:
    import open_clip

    if name not in open_clip.list_models():
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(name, [*open_clip.list_models(), TINY], n=4, cutoff=0.4))
        raise ConfigError(f"unknown model {name!r}; {f'did you mean {near}?' if near else 'name one of open_clip'}")
    return open_clip.list_pretrained_tags_by_model(name)


def _scorecard(tuned: Tuned, finetune: FinetuneConfig | None, budget: str, words: Sequence[str]) -> ScorecardConfig:
    """The scorecard of the base, on all images alike, so that base and result can be paired."""
    model = tuned.said["model"]
    shown = " ".join(filter(None, (model["name"], model.get("pretrained", ""))))
    said = overlaid(read_recipe("scorecard", budget), {"model": model, "stop_width": 0, "encoder": shown})
    if finetune is not None:
        said["threat"] = {"norm": finetune.threat.norm, "eps": finetune.threat.eps}
    for path, value in parse_overrides("scorecard", said, words):
        put(said, path, value)
    return check_config("scorecard", said)


def _checked(build: Any) -> tuple[Any, list[str]]:
    try:
        return build(), []
    except ConfigError as error:
        return None, str(error).splitlines()
