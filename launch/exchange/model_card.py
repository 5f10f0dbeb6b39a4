"""The card of a hub folder: what the weights are, what was measured on them, and every reason to doubt it."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from configs.files import ConfigError
from configs.yaml_file import read_yaml
from eval.results import WORST, Result
from eval.tables import CLEAN, ROBUST, percent, plain, threat_name
from launch.exchange.results import Measured
from launch.exchange.subject import Exported

_MARKS = "\\`*_{}[]#|~$^:@"
_SETTINGS = ("objective", "threat", "attack", "optimizer")


def escaped(value: object) -> str:
    """Text in which neither HTML nor Markdown means anything, on one line; addresses are no links."""
    text = re.sub(f"([{re.escape(_MARKS)}]|(?<=[A-Za-z])\\.(?=[A-Za-z0-9]))", r"\\\1", plain(value))
    return html.escape(text, quote=False)


def model_card(name: str, subject: Exported, measured: Measured, *, licence: str, weights: str) -> str:
    """The README of a hub folder, in Markdown.

    Args:
        name: of the model.
        subject: the weights.
        measured: results on them.
        licence: as the user says; empty where nothing was said.
        weights: SHA-256 of the file of weights.
    """
    image, metadata = subject.clip.image, subject.metadata
    base = metadata.get("base") or {"name": subject.clip.name, "pretrained": subject.clip.pretrained}
    recipe = _recipe(Path(subject.source))
    return _template().render(
        name=name,
        licence=licence,
        base=f"{_shown_name(base['name'])} {base['pretrained']}".strip(),
        trained=_training(metadata, recipe),
        data=_data(recipe),
        size=image.image_size,
        dim=image.embedding_dim,
        mean=", ".join(f"{value:.4f}" for value in image.mean.flatten().tolist()),
        std=", ".join(f"{value:.4f}" for value in image.std.flatten().tolist()),
        tables=[_table(measured, dataset) for dataset in measured.datasets],
        doubts=[doubt for card in measured.cards for doubt in card.doubts],
        cards=measured.cards,
        defended=sorted({row.defense for row in measured.rows} - {"none"}),
        fingerprint=subject.fingerprint,
        weights=weights,
        configs=sorted({row.config for row in measured.rows}),
    )


def _shown_name(name: str) -> str:
    """A model's name without the folders of the machine that it lay on."""
    return f"local-dir:{Path(name).name}" if name.startswith("local-dir:") else name


def _recipe(source: Path) -> dict[str, Any]:
    """The settings of the training whose export or checkpoint this is, where it lies in its run."""
    file = source.resolve().parent.parent / "config.yaml"
    if source.parent.name not in ("export", "checkpoints") or not file.is_file():
        return {}
    try:
        found = read_yaml(file)
    except ConfigError:  # a file that only looks like a run's says nothing
        return {}
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _training(metadata: dict[str, Any], recipe: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of the training, label by label."""
    known = {name: metadata[name] for name in ("objective", "threat", "step", "config_hash") if name in metadata}
    for name in _SETTINGS:
        if isinstance(recipe.get(name), dict):
            known[name] = {key: value for key, value in recipe[name].items() if value is not None}
    return [(name.replace("_", " "), _words(value)) for name, value in known.items()]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _data(recipe: dict[str, Any]) -> str:
    """Names of the shards, without their folders."""
    data = recipe.get("data")
    shards = data.get("shards") if isinstance(data, dict) else None
    return str(shards).rstrip("/").rpartition("/")[2] if shards else ""


def _table(measured: Measured, dataset: str) -> dict[str, Any]:
    rows = [row for row in measured.of(dataset) if row.metric in (CLEAN, ROBUST)]
    worst = next((row for row in rows if row.attack == WORST), None)
    return {
        "dataset": dataset,
        "threat": threat_name(worst.norm, worst.eps) if worst else "no attack",
        "n": max((row.n for row in rows), default=0),
        "rows": [_row(row) for row in rows],
    }


def _row(row: Result) -> dict[str, str]:
    clean, worst = row.metric == CLEAN, row.attack == WORST
    return {
        "defense": row.defense,
        "worst": "yes" if worst else "",
        "attack": "none (clean)" if clean else row.attack,
        "view": "–" if clean or worst else row.view,
        "eps": "–" if clean else threat_name(row.norm, row.eps),
        "value": f"{percent(row.value)} ({percent(row.low)}–{percent(row.high)})",
        "caution": "; ".join(filter(None, (row.artefact and f"artefact: {row.artefact}", row.qualifier))),
    }


@cache
def _template() -> Any:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else escaped(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = lambda value: Markup(json.dumps(plain(value)))  # a text of JSON is one of YAML
    return environment.get_template("model_card.md")
