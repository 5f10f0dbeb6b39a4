"""Evaluations as they lie in folders, written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.card import Card, Doubt, Share, write_card
from eval.outcomes import Cell, Outcomes, write_outcomes
from eval.results import WORST, Result, write_results

CLEAN = Result(
    task="classification",
    dataset="digits",
    n=200,
    checkpoint="encoder.safetensors",
    step=7,
    encoder="R-CLIP_F",
    defense="none",
    attack="none",
    view="none",
    norm="none",
    eps=0.0,
    metric="clean_accuracy",
    value=0.781,
    low=0.72,
    high=0.83,
    seconds=1.0,
    seed=0,
    config="abc",
)


def robust(attack: str, value: float, **changes: Any) -> Result:
    view = WORST if attack == WORST else "adaptive"
    told = {"attack": attack, "view": view, "norm": "linf", "eps": 4 / 255, "metric": "robust_accuracy", "value": value}
    return replace(CLEAN, **{**told, **changes})


def write_judged(folder: Path, rows: list[Result], weights: str, doubts: list[Doubt] | None = None) -> Path:
    """The folder of an evaluation, or of a scorecard where there are doubts, empty ones too."""
    folder.mkdir(parents=True)
    write_results(folder / "results.jsonl", rows)
    outcomes = Outcomes(keys=["a"], draws={Cell("none"): [[True]]}, seconds={Cell("none"): 0.0})
    write_outcomes(folder / "outcomes-digits.json", outcomes, weights=weights)
    (folder / "config.yaml").write_text("model: {name: ViT-B-32, pretrained: openai, checkpoint: /data/fare4.pt}\n")
    if doubts is not None:
        share = Share(0.5, 0.4, 0.6, 200)
        card = Card(
            encoder="R-CLIP_F",
            model="x",
            defense="none",
            settings={},
            dataset="digits",
            norm="linf",
            eps=4 / 255,
            budget="quick",
            headline=share,
            clean=share,
            views=[],
            doubts=doubts,
            weights=weights,
        )
        write_card(folder, card)
    return folder
