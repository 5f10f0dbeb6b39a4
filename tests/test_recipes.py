"""Every shipped recipe says what it is, is accepted, and differs from its siblings where it should."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launch.evaluation import run_evaluation
from launch.job import run_job
from launch.scorecard import run_scorecard
from launch.tuning import run_tune

RECIPES = Path(__file__).parents[1] / "configs" / "recipes"
FILES = sorted(RECIPES.rglob("*.yaml"))
UNSAID = {  # what a recipe for one's own data leaves to its user
    "checkpoint": ["tasks.imagenet.shards"],
    "nights": ["tasks.nights.shards"],
    "rclip-nights": ["tasks.nights.shards"],
    "things": ["tasks.things.shards"],
    "retrieval_revisited": ["tasks.roxford5k.shards", "tasks.rparis6k.shards"],
    "nsfw": ["tasks.nsfw.shards", "tasks.nsfw.neighbours.examples"],
    "filtering": ["tasks.pool.shards", "tasks.pool.filtering.reference"],
}


def test_there_are_recipes() -> None:
    assert len(FILES) >= 15
    assert {file.parent.name for file in FILES} == {
        "finetune",
        "perceptual",
        "prior",
        "embed",
        "evaluate",
        "pretrain",
        "scorecard",
        "tune",
        "protocol",
    }


@pytest.mark.parametrize("file", FILES, ids=[f"{f.parent.name}/{f.stem}" for f in FILES])
def test_a_recipe_says_what_it_is_for_how_to_run_it_and_what_it_costs(file: Path) -> None:
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(header)
    assert re.search(r"#   robustclip \w+ ", text) and "cost:" in text and "expect:" in text


@pytest.mark.parametrize("file", FILES, ids=[f"{f.parent.name}/{f.stem}" for f in FILES])
def test_a_recipe_is_accepted_by_a_dry_run(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind, name = file.parent.name, file.stem
    if kind == "protocol":
        return  # needs data: tests/launch/test_protocols.py
    if kind == "evaluate":
        model = [f"{key}=not-said" for key in UNSAID.get(name, ["prior"])]
        encoder = "ViT-B-16" if name in UNSAID else "tiny"
        run_evaluation(encoder, name, model, None, dry_run=True, command="")
    elif kind == "scorecard":
        run_scorecard("tiny", [], name, None, dry_run=True, command="")
    elif kind == "tune":
        told = ["data.shards=not-said", "data.tune_shards=nor-these"] if name.endswith("vit_l14") else []
        run_tune(name, [*told, "prior=not-said"], None, dry_run=True, command="")
    else:
        run_job(kind, name, [], None, dry_run=True, command="")
    shown = capsys.readouterr().out
    assert f"{kind} {name}" in shown
    assert "parameters" in shown


def test_a_dry_run_tells_shapes_counts_and_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    run_job("finetune", "fare_vit_l14_eps4", ["trainer.devices=8"], None, dry_run=True, command="")
    shown = capsys.readouterr().out
    for told in ("224, 224] in [0, 1]", "[B, 768]", "303,966,208", "20,000 steps", "2,560,000 samples", "FARE", "PGD("):
        assert told in shown, told


def test_fare_and_tecoa_differ_in_two_lines() -> None:
    lines = [
        [
            line
            for line in (RECIPES / "finetune" / f"{name}_vit_l14_eps4.yaml").read_text().splitlines()
            if line[:1] != "#"
        ]
        for name in ("fare", "tecoa")
    ]
    differing = [pair for pair in zip(*lines, strict=True) if pair[0] != pair[1]]
    assert differing == [
        ("objective: {name: fare}", "objective: {name: tecoa}"),
        ("encoder: R-CLIP_F", "encoder: R-CLIP_T"),
    ]
