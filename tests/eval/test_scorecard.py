"""A scorecard from end to end: the headline is the worst of everything, and what is planted is never green."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from configs.files import ConfigError
from configs.load import load_config
from configs.schema import CertifyConfig, ScorecardConfig, StrengthConfig
from eval.card import Card, Share, ViewNumber, read_card, write_card
from eval.certificates import l2_radius
from eval.outcomes import read_outcomes
from eval.rows import Subject
from eval.score_table import score_table
from eval.score_words import tone
from eval.scorecard import Scoring, judge_model, make_card, strongest_view
from modules.defenses import CLIPureCos, Defense, Undefended, View
from modules.defenses.smoothing import RandomizedSmoothing
from tests.eval import gallery
from tests.eval.toy_world import Reader, toy_plan

STRENGTH = StrengthConfig(
    attack={"name": "apgd", "steps": 5}, limit=40, eps=[0, 0.5, 1, 8], steps=[1, 5, 15], restarts=[], draws=[]
)


def scored(encoder: Reader, defense: Defense, **changes: Any) -> Card:
    encoder.freeze()
    plan = toy_plan(encoder, defense)
    planted = replace(plan, config=replace(plan.config, score_draws=3))
    config = ScorecardConfig(
        defense={"name": "planted"}, strength=STRENGTH, cascade="view", **{"probes": 32, **changes}
    )
    return make_card(encoder, Scoring(config, planted, Subject("toy", "toy"), quiet=True))[0]


@pytest.mark.parametrize(
    ("left", "strongest"),
    [
        ({"adaptive": 0.5, "ensemble": 0.1, "query": 0.0}, "ensemble"),
        ({"smooth": 0.4, "trajectory": 0.3}, "trajectory"),
        ({"bpda": 0.3, "eot": 0.3, "gate": 0.3}, "eot"),
        ({"transfer": 0.1, "released": 0.1, "a later one": 0.1}, "adaptive"),
    ],
)
def test_the_strongest_view_is_the_lowest_of_those_through_the_defense(left: dict[str, float], strongest: str) -> None:
    share = Share(0.5, 0.4, 0.6, 100)
    views = [ViewNumber(view, replace(share, value=value), {}) for view, value in left.items()]
    shown = Card(*("CLIP", "", "ttc", {}, "digits", "linf", 0.01, "quick"), headline=share, clean=share, views=views)
    assert strongest_view(shown, Undefended(Reader("loud"))) == strongest


@pytest.fixture(scope="module")
def honest() -> Card:
    return scored(Reader("loud"), CLIPureCos(Reader("loud").freeze(), torch.ones(6)))


def test_an_honest_robust_encoder_is_believed(honest: Card) -> None:
    assert honest.believable and not honest.doubts
    assert honest.headline.value > 0.9 and honest.headline.n == 120
    assert tone(honest) == "holds"


def test_the_headline_is_the_lowest_number_on_the_card(honest: Card) -> None:
    for number in honest.views:
        assert honest.headline.value <= number.share.value <= min(number.attacks.values())
    assert honest.headline.value <= honest.clean.value
    assert {number.view for number in honest.views} == {"transfer", "adaptive", "bpda", "ensemble", "query"}


def test_curves_begin_at_the_clean_accuracy_and_fall(honest: Card) -> None:
    lines = {line.over: [share.value for _, share in line.points] for line in honest.curves}
    assert set(lines) == {"eps", "steps"}
    assert lines["eps"][0] >= 0.95 and lines["eps"][-1] <= 0.2
    assert sorted(lines["eps"], reverse=True) == lines["eps"]


def test_a_card_is_read_back_from_its_file(honest: Card, tmp_path: Path) -> None:
    write_card(tmp_path, honest)
    assert read_card(tmp_path) == honest
    content = json.loads((tmp_path / "scorecard.json").read_text())
    assert set(content["headline"]) == {"value", "low", "high", "n"}
    (tmp_path / "scorecard.json").write_text("{}")
    with pytest.raises(ConfigError, match="is damaged"):
        read_card(tmp_path)


@pytest.mark.parametrize("make", [gallery.DetachedPurifier, gallery.Saturated, gallery.RoundedPixels, gallery.SignFlip])
def test_a_planted_defence_is_broken_and_never_green(make: Any) -> None:
    encoder = Reader("whisper")
    card = scored(encoder, make(encoder))
    assert card.headline.value <= card.static["worst"].value + 0.05
    assert not card.believable and tone(card) == "struck"
    assert [doubt.severity for doubt in card.doubts] == sorted((d.severity for d in card.doubts), reverse=True)
    console = Console(record=True, width=100, color_system="truecolor", file=io.StringIO())
    console.print(score_table(card))
    assert "not to be read as robustness" in " ".join(console.export_text(clear=False).split())
    assert "008000" not in console.export_html(clear=False)  # the terminal's green


def test_a_certificate_stands_below_the_attacks() -> None:
    encoder = Reader("loud")
    defense = RandomizedSmoothing(encoder.freeze(), sigma=0.25, draws=16)
    card = scored(encoder, defense, certify=CertifyConfig(limit=40, picks=20, looks=200))
    assert card.bracket is not None and card.bracket.attacked is not None
    assert card.bracket.eps == pytest.approx(8 / 255 * 192**0.5)
    assert 0 < card.bracket.certified.value <= card.bracket.attacked.value
    assert not [doubt for doubt in card.doubts if doubt.name == "certified_above_attacked"]


def test_the_ball_of_a_certificate_holds_the_ball_of_the_attacks() -> None:
    corner = torch.full((3, 4, 4), 0.1)
    assert l2_radius("linf", 0.1, 48) == pytest.approx(float(corner.norm()))
    assert l2_radius("l2", 0.1, 48) == l2_radius("l1", 0.1, 48) == 0.1


def quick(*overrides: str) -> ScorecardConfig:
    small = ["data.shards=digits", "model.name=tiny", "data.limit=16", "fewer=0", "batch_size=8", "examples=2"]
    short = [
        "attacks={apgd: {steps: 4}, square: {queries: 10, views: [query]}}",
        "strength.limit=8",
        "strength.eps=[0,1]",
    ]
    return load_config(
        "scorecard", "quick", [*small, *short, "strength.steps=[1,3]", "strength.restarts=[]", *overrides]
    )


def test_a_model_leaves_card_rows_outcomes_and_examples_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    config = quick("defense.name=random_noise")
    card = judge_model(config, tmp_path, budget="quick", command="robustclip scorecard tiny")
    written = {path.name for path in tmp_path.iterdir()}
    assert {
        "scorecard.json",
        "results.jsonl",
        "outcomes-digits.json",
        "examples.json",
        "config.yaml",
        "env.json",
    } <= written
    assert card.command == "robustclip scorecard tiny" and card.defense == "random_noise"
    assert card.mean_draw is not None and card.majority is not None
    assert card.headline.value <= card.mean_draw.value <= card.clean.value + 1e-9
    assert card.cost is not None and card.cost.forwards == 1
    outcomes = read_outcomes(tmp_path / "outcomes-digits.json")
    assert {cell.defense for cell in outcomes.draws} == {"none", "random_noise"}
    again = judge_model(config, tmp_path, budget="quick", command="robustclip scorecard tiny")
    assert replace(again, cost=None) == replace(card, cost=None)


@pytest.mark.slow
def test_a_dear_defence_is_judged_on_fewer_images_and_says_how_many(tmp_path: Path) -> None:
    card = judge_model(
        quick("fewer=4", "defense={name: ttc, tau: 1000.0, steps: 1}", "views=[adaptive]", "probes=2"),
        tmp_path,
        budget="quick",
    )
    assert 4 <= card.headline.n < 16


def test_views_of_the_undefended_encoder_are_its_own_gradient_and_none() -> None:
    assert Undefended(Reader("loud")).views() == (View.control, View.adaptive, View.query)
