from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from eval.metrics import wilson
from eval.results import Result
from eval.tables import headline, main_threats, plain, radius, terminal_table, view_grid
from modules.views import View


def row(
    attack: str = "worst",
    view: str = "worst",
    value: float = 0.5,
    *,
    defense: str = "none",
    encoder: str = "CLIP",
    step: int = 0,
    eps: float = 4 / 255,
    artefact: str = "",
) -> Result:
    n = 100
    metric = "clean_accuracy" if attack == "none" else "robust_accuracy"
    norm = "none" if attack == "none" else "linf"
    return Result(
        *("classification", "digits", n, "w.pt", step, encoder, defense, attack, view, norm),
        *(0.0 if attack == "none" else eps, metric, value, *wilson(round(value * n), n)),
        *(1.0, 0, "c0ffee", artefact),
    )


def clean(value: float = 0.9, **kwargs: str) -> Result:
    return replace(row("none", "none", value), **kwargs)


def printed(rows: list[Result]) -> str:
    console = Console(width=160, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(terminal_table(rows))
    return capture.get()


def test_headline_takes_the_lowest_attack_of_each_kind() -> None:
    rows = [
        clean(0.9, defense="ttc"),
        row("pgd", "transfer", 0.7, defense="ttc"),
        row("apgd", "transfer", 0.6, defense="ttc"),
        row("apgd", "adaptive", 0.4, defense="ttc"),
        row("apgd", "bpda", 0.3, defense="ttc"),
        row("apgd", "eot", 0.35, defense="ttc"),
        row("apgd", "released", 0.2, defense="ttc"),
        row(value=0.1, defense="ttc"),
    ]
    (found,) = headline(rows)
    assert found.clean and found.transfer and found.adaptive and found.worst
    values = found.clean.value, found.transfer.value, found.adaptive.value, found.worst.value
    assert values == (0.9, 0.6, 0.3, 0.1)
    assert found.gap == pytest.approx(0.5)
    assert found.caution == ""


def test_the_bare_encoder_has_no_transfer_and_comes_first() -> None:
    rows = [row("pgd", "bpda", 0.3, defense="ttc"), row(defense="ttc"), clean(), row()]
    rows.append(row("pgd", "transfer", 0.2))
    found = headline(rows)
    assert [r.defense for r in found] == ["none", "ttc"]
    assert found[0].transfer is None
    assert found[0].gap is None


def test_only_the_last_step_counts() -> None:
    rows = [row(value=0.8, step=10), row(value=0.2, step=30), row(value=0.5, step=20)]
    (found,) = headline(rows)
    assert found.worst and found.worst.value == 0.2
    assert found.step == 30


@pytest.mark.parametrize(
    ("rows", "caution"),
    [
        ([row(artefact="clipure-legacy")], "artefact: clipure-legacy"),
        ([row("pgd", "transfer", defense="ttc"), row(defense="ttc")], "no adaptive attack"),
        ([row("pgd", "adaptive", 0.3), row(value=0.45)], "above a single attack"),
        ([clean(0.4), row("pgd", "adaptive", 0.45), row(value=0.45)], "above clean"),
    ],
)
def test_numbers_that_are_no_robustness_say_why(rows: list[Result], caution: str) -> None:
    assert headline(rows)[0].caution == caution


@pytest.mark.parametrize("view", [view for view in View if view.through])
def test_a_single_view_through_the_defense_is_an_adaptive_attack(view: View) -> None:
    (found,) = headline([row("pgd", view.value, 0.2, defense="ttc"), row(value=0.2, defense="ttc")])
    assert found.adaptive and found.adaptive.value == 0.2
    assert found.caution == ""


def test_the_adaptive_column_and_the_gap_take_the_lowest_view_through_the_defense() -> None:
    tried = {
        "transfer": 0.6,
        "adaptive": 0.5,
        "eot": 0.5,
        "gate": 0.2,
        "trajectory": 0.3,
        "ensemble": 0.1,
        "query": 0.4,
    }
    rows = [row("pgd", view, value, defense="ttc") for view, value in tried.items()]
    (found,) = headline([*rows, row(value=0.1, defense="ttc")])
    assert found.adaptive and found.adaptive.view == "ensemble" and found.adaptive.value == 0.1
    assert found.transfer and found.gap == pytest.approx(0.5) == found.transfer.value - found.adaptive.value


@pytest.mark.parametrize("view", ["transfer", "query", "released", "original", "a view of a later version"])
def test_other_views_and_unknown_names_are_no_adaptive_attack(view: str) -> None:
    (found,) = headline([row("pgd", view, 0.1, defense="ttc"), row(value=0.1, defense="ttc")])
    assert found.adaptive is None
    assert found.caution == "no adaptive attack"


def test_the_middle_of_the_fullest_radii_is_the_main_one() -> None:
    rows = [row(eps=e / 255) for e in (1, 2, 4, 8, 64)]
    assert [t[3] for t in main_threats(rows)] == [4 / 255]
    assert [t[3] for t in main_threats([*rows, row("pgd", "adaptive", eps=2 / 255)])] == [2 / 255]


def test_grid_keeps_every_attack_and_view() -> None:
    rows = [row("pgd", "bpda", 0.4), row("apgd", "transfer", 0.6), row("pgd", "transfer", 0.5)]
    attacks, lines = view_grid(rows)
    assert attacks == ["pgd", "apgd"]
    assert [(v, [r and r.value for r in rs]) for v, rs in lines] == [
        ("transfer", [0.5, 0.6]),
        ("bpda", [0.4, None]),
    ]


def test_terminal_shows_the_numbers() -> None:
    text = printed([clean(0.9), row("pgd", "adaptive", 0.35), row(value=0.31)])
    for number in ("90.0", "35.0", "31.0", "22.8–40.6", "digits, ℓ∞ 4/255"):
        assert number in text


def test_terminal_leaves_out_radii_without_a_worst_case() -> None:
    rows = [row("pgd", "adaptive", 0.35), row(value=0.31), row("pgd", "adaptive", 0.2, eps=8 / 255)]
    assert "8/255" not in printed(rows)
    assert "8/255" in printed(rows[2:])


def test_an_artefact_is_tagged_and_never_bold_in_the_terminal() -> None:
    worst, sound = row(value=0.83, artefact="clipure-legacy"), row(value=0.83)
    assert "\x1b[1m83.0" in printed([sound])
    text = printed([worst])
    assert "83.0" in text
    assert "artefact" in text
    assert "\x1b[1m83.0" not in text
    assert "\x1b[32m" not in text


def test_names_are_inert_in_the_terminal() -> None:
    text = printed([row(encoder="[red]x[/red]\x1b]0;owned\x07\nR\x1b[5mE", defense="[/]")])
    assert "[red]x[/red]" in text
    assert "owned" not in text
    assert "\x1b[5m" not in text
    assert "\x1b]" not in text


@given(st.text())
def test_plain_text_has_one_line_and_no_control_characters(text: str) -> None:
    assert all(c.isprintable() or c in "\u00a0\u3000" or not c.isascii() for c in plain(text))
    assert len(plain(text).splitlines()) <= 1
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize(("eps", "shown"), [(4 / 255, "4/255"), (0.5, "0.5"), (0.0, "0"), (8 / 255, "8/255")])
def test_radii_read_in_grey_levels(eps: float, shown: str) -> None:
    assert radius(eps) == shown


def test_clean_accuracy_alone_has_its_line_and_no_threat() -> None:
    (found,) = headline([clean(0.9)])
    assert found.clean and found.clean.value == 0.9 and found.worst is None and found.caution == ""
    text = printed([clean(0.9)])
    assert "no attack" in text and "90.0" in text
    attacked = headline([clean(0.9), row("pgd", "adaptive", 0.35), row(value=0.31)])
    assert [r.norm for r in attacked] == ["linf"]
