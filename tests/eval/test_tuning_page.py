"""The page of a tuning: nothing from outside, nothing executable, and the same bytes for the same numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from eval.card import Doubt
from eval.compare import compare
from eval.pages.tuning import best_of
from eval.tuning_page import build_tuning_page
from eval.tuning_record import Rung, Tried, Tuning, read_tuning, write_tuning
from eval.tuning_words import verdict
from tests.eval.test_tuning_choice import score
from tests.eval.test_tuning_words import flags

RUNG = Rung(
    "sieve",
    ["apgd"],
    score(0.95, 0.3),
    [
        Tried(
            f"steps={steps} t_min={t_min}", {"steps": steps, "t_min": t_min}, score(0.9, worst, 0.6, worst + 0.1), steps
        )
        for steps, t_min, worst in ((1, 0.0, 0.35), (1, 0.9, 0.3), (3, 0.0, 0.1), (3, 0.9, 0.0))
    ],
)


def a_tuning() -> Tuning:
    comparison = compare(*flags(50, 20, 2, 28))
    judged, bare = score(0.93, 0.7, 0.8, 0.75), score(0.95, 0.52)
    return Tuning(
        encoder="CLIP",
        model="tiny",
        defense="clipure_diff",
        fixed={},
        search={"steps": [1, 3, 10], "t_min": [0.0, 0.9]},
        grid=6,
        impossible={"t_min=1": "too late"},
        dataset="digits",
        norm="linf",
        eps=2 / 255,
        max_clean_drop=0.05,
        rungs=[RUNG],
        winner=RUNG.tried[0].name,
        line="defense.name=clipure_diff defense.steps=1 defense.t_min=0.0",
        bare=bare,
        judged=judged,
        comparison=comparison,
        verdict=verdict(comparison, [RUNG], judged=judged, bare=bare, max_clean_drop=0.05),
        doubts=[Doubt("few_images", "amber", "There are few images.")],
        command="robustclip tune clipure_diff_tiny",
    )


def page(tuning: Tuning, folder: Path) -> str:
    return build_tuning_page(tuning, folder).read_text()


def test_the_page_says_the_verdict_the_bias_and_the_line_to_paste(tmp_path: Path) -> None:
    text = page(a_tuning(), tmp_path)
    for told in (
        "+18.0",
        "a setting beats the undefended encoder",
        "the best of 4 settings",
        "defense.name=clipure_diff defense.steps=1",
        "robustclip tune clipure_diff_tiny",
        "too late",
        "There are few images.",
        "4 of 6",
        "do not transfer to CLIP",
    ):
        assert told.lower() in text.lower(), told
    assert text.count("<svg") == 3  # two searched keywords and the scatter
    assert "steps=3 t_min=0.9" in text


def test_the_page_is_self_contained_and_reproducible(tmp_path: Path) -> None:
    one, other = page(a_tuning(), tmp_path / "a"), page(a_tuning(), tmp_path / "b")
    assert one == other
    assert "<script" not in one and not re.search(r'(?:src|href)="(?!#)', one)


def test_what_a_stranger_named_is_inert(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    text = page(replace(a_tuning(), encoder=evil, winner=evil, qualifier=evil), tmp_path)
    assert "<script" not in text and "\x1b" not in text and "&lt;script&gt;" in text


def test_a_value_that_was_not_tried_is_left_open(tmp_path: Path) -> None:
    assert best_of(RUNG.tried, {"steps": 10}) is None
    best = best_of(RUNG.tried, {"steps": 3})
    assert best is not None and best.name == "steps=3 t_min=0.0"
    assert "<td>–</td>" in page(a_tuning(), tmp_path)  # steps=10


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_tuning(tmp_path, a_tuning())
    assert read_tuning(tmp_path) == a_tuning()
