"""Cards of the shapes that a scorecard takes; the numbers are made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eval.card import Bracket, Card, Cost, Curve, Doubt, Health, Share, ViewNumber
from eval.metrics import wilson

N = 500
RED = Doubt(
    "transfer_below_adaptive",
    "red",
    "A transferred attack leaves 8.8 % and the best attack through the defence 20.6 %: whoever looks at the defence "
    "sees less than whoever does not, so the gradients are masked.",
)
AMBER = Doubt("not_converged", "amber", "Twice the steps still lower the accuracy by 1.4 points; take more.")


def share(value: float, n: int = N) -> Share:
    right = round(value * n)
    return Share(right / n, *wilson(right, n), n)


def curve(over: Any, attack: str, view: str, *points: tuple[float, float]) -> Curve:
    return Curve(over, attack, view, [(x, share(y, 64)) for x, y in points])


def card(**changes: Any) -> Card:
    """A robust encoder behind a counterattack, with everything that a card may hold."""
    made = Card(
        encoder="R-CLIP_F",
        model="fare_vit_l14_eps4.safetensors",
        defense="ttc",
        settings={"steps": 2, "eps": 0.0157, "threshold": 0.2, "calibrate": True},
        dataset="imagenet",
        norm="linf",
        eps=4 / 255,
        budget="standard",
        headline=share(0.612),
        clean=share(0.798),
        views=[
            ViewNumber("query", share(0.70), {"square": 0.72, "rays": 0.744}),
            ViewNumber("transfer", share(0.656), {"apgd_ce": 0.672, "apgd_t": 0.66, "fab": 0.668}),
            ViewNumber("adaptive", share(0.624), {"apgd_ce": 0.64, "apgd_t": 0.628}),
            ViewNumber("bpda", share(0.636), {"apgd_ce": 0.65, "apgd_t": 0.64}),
            ViewNumber("gate", share(0.65), {"apgd_ce": 0.65}),
        ],
        static={"clean": share(0.792), "worst": share(0.548)},
        doubts=[],
        health=[
            Health("none", 1.0, 0.0, 0.0, 0.0, 1.0, None, 0.004),
            Health("adaptive", 0.83, 0.013, 0.0, 0.0, 0.71, 0.84, 0.021),
            Health("bpda", 1.02, 0.0001, 0.02, 0.0, 0.93, None, 0.37),
        ],
        curves=[
            curve("steps", "apgd_ce", "adaptive", (5, 0.703), (10, 0.672), (20, 0.656), (50, 0.64), (100, 0.64)),
            curve("steps", "apgd_t", "adaptive", (5, 0.688), (10, 0.656), (20, 0.64), (50, 0.625), (100, 0.625)),
            curve("restarts", "apgd_ce", "adaptive", (1, 0.64), (2, 0.64), (5, 0.625)),
            curve("eps", "apgd_ce", "adaptive", (1 / 255, 0.75), (2 / 255, 0.72), (4 / 255, 0.64), (16 / 255, 0.0)),
            curve("draws", "apgd_ce", "eot", (1, 0.7), (4, 0.66), (16, 0.65)),
        ],
        cost=Cost(4.0, 2.0, 61.4, 15.2, 32),
        bracket=Bracket(0.25, share(0.41, 64), share(0.61, 64)),
        mean_draw=share(0.633),
        majority=share(0.641),
        unchecked=["Whether attacked images survive being stored: 10 steps fool too few."],
        notes=[
            {"title": "TTC calibration", "text": "The gate opens below 0.174, found on 300 images used nowhere else."}
        ],
        command="robustclip scorecard fare.safetensors standard defense.name=ttc --out scores/ttc",
        config="5f0c2d1e9a7b4c33",
        weights="a1b2c3d4e5f60718",
        seed=7,
    )
    return replace(made, **changes)
