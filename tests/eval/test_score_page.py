"""The page and the terminal's table of a scorecard: nothing is left out, and nothing doubtful looks good."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass, replace
from html import unescape
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from configs.files import ConfigError
from eval.card import Bracket, Card, Cost, Curve, Doubt, Health, Share, ViewNumber, read_card, write_card
from eval.inert import inert
from eval.pages.health import MEASURES, panel, quantity
from eval.report import build_report
from eval.score_page import build_score_page
from eval.score_table import score_table
from eval.score_words import attacks_of, beside, gap_of, hidden, name_of, threat_of, tried
from modules.defenses.base import View
from tests.eval.score_cards import AMBER, RED, card, curve, share
from tests.eval.test_report import add_examples, loads, make_run, synthetic


def page_of(shown: Card, folder: Path) -> str:
    return build_score_page(shown, folder).read_text()


def body_of(text: str) -> str:
    """The page without its style sheet, in which every class is named."""
    return re.sub(r"<style>.*?</style>", "", text, flags=re.S)


def terminal(shown: Card, width: int = 100) -> str:
    console = Console(width=width, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(score_table(shown))
    return capture.get()


def looks_good(text: str) -> bool:
    """Whether something on a page wears the colour of a number that may be believed."""
    return any("holds" in classes.split() for classes in re.findall(r'class="([^"]*)"', body_of(text)))


def painted_green(text: str) -> bool:
    """Whether anything in a terminal's text is green, of the plain colours or the bright ones."""
    codes = [code.split(";") for code in re.findall(r"\x1b\[([\d;]*)m", text)]
    return any({"32", "92"} & set(code) for code in codes)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("score")
    add_examples(folder)
    return page_of(card(), folder)


def test_a_card_without_doubts_is_shown_as_robustness(page: str) -> None:
    assert looks_good(page) and painted_green(terminal(card()))
    assert re.search(r'<p class="number holds"[^>]*>61\.2<', page)
    assert "No check found a reason to doubt" in page and "no check found" in terminal(card())


@pytest.mark.parametrize(
    ("doubted", "kind", "reason"),
    [
        ({"doubts": [RED]}, "struck", RED.text),
        ({"doubts": [AMBER, RED]}, "struck", RED.text),
        ({"artefact": "clipure-legacy"}, "struck", "kept only to reproduce a release (clipure-legacy)"),
        ({"artefact": "clipure-legacy", "doubts": [AMBER]}, "struck", "clipure-legacy"),
        ({"doubts": [AMBER]}, "open", AMBER.text),
    ],
)
def test_a_doubted_card_never_looks_good(doubted: dict[str, Any], kind: str, reason: str, tmp_path: Path) -> None:
    shown = card(headline=share(1.0), curves=[], **doubted)
    text = page_of(shown, tmp_path)
    assert not looks_good(text) and not painted_green(terminal(shown))
    assert re.search(rf'<p class="number {kind}"[^>]*>100\.0<', text)
    header = unescape(body_of(text)[: body_of(text).index("<nav")])
    assert reason in header and ("Not to be read as robustness." in header) == (kind == "struck")
    assert ("not to be read as robustness" in terminal(shown)) == (kind == "struck")
    assert "No check found" not in text


def test_what_is_struck_is_struck_wherever_the_number_stands(tmp_path: Path) -> None:
    text = body_of(page_of(card(doubts=[RED], curves=[]), tmp_path))
    assert text.count(">61.2<") == 4
    assert len(re.findall(r'class="(?:value|number) struck"[^>]*>61\.2<', text)) == 4


def test_the_looks_of_the_three_kinds_are_in_the_style(page: str) -> None:
    assert re.search(r"\.number\.struck \{[^}]*line-through", page)
    assert re.search(r"\.number\.holds \{[^}]*--holds", page) and not re.search(r"\.number\.open", page)
    for colour in re.findall(r"--(?:doubt|watch)(?:-paper)?: #([0-9a-f]{6})", page):
        red, green, _ = (int(colour[i : i + 2], 16) for i in (0, 2, 4))
        assert red > green
    assert painted_green("\x1b[1;32mx") and not painted_green("\x1b[31mx")  # the check sees a planted one


def test_red_doubts_come_first(tmp_path: Path) -> None:
    text = page_of(card(doubts=[AMBER, RED], curves=[]), tmp_path)
    listed = text[text.index('id="doubts"') :]
    assert listed.index(RED.name) < listed.index(AMBER.name)
    printed = terminal(card(doubts=[AMBER, RED]))
    assert printed.index(RED.name) < printed.index(AMBER.name)


def altered(value: Any) -> Iterator[Any]:
    """For every place inside a value, the value with that place changed."""
    if is_dataclass(value) and not isinstance(value, type):
        for name in [f.name for f in fields(value)]:
            yield from (replace(value, **{name: other}) for other in altered(getattr(value, name)))  # pyright: ignore
    elif isinstance(value, dict):
        for name, held in value.items():
            yield from ({**value, name: other} for other in altered(held))
    elif isinstance(value, list | tuple):
        for i, held in enumerate(value):
            yield from (type(value)([*value[:i], other, *value[i + 1 :]]) for other in altered(held))
    elif isinstance(value, str):
        yield OTHER.get(value, value + "-changed")
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 3
    elif isinstance(value, float):
        yield value * 0.93 + 0.003
    else:
        yield 0.123  # None


OTHER = {"steps": "restarts", "restarts": "steps", "draws": "steps", "eps": "steps", "red": "amber", "amber": "red"}
EXAMPLES = (Share, Doubt, ViewNumber, Health, Curve, Cost, Bracket)  # what a card is made of


def few(shown: Card) -> Card:
    """A smaller card in which every field is still filled."""
    return replace(
        shown,
        doubts=[AMBER],
        artefact="legacy",
        views=shown.views[1:2],
        static={"worst": share(0.548)},
        health=[Health("adaptive", 0.83, 0.013, 0.01, 0.02, 0.71, 0.84, 0.021)],
        curves=[curve("eps", "apgd_ce", "adaptive", (0.02, 0.703), (0.5, 0.672))],
        settings={"steps": 2},
    )


@pytest.mark.parametrize("field", fields(Card), ids=lambda field: field.name)
def test_no_field_of_a_card_is_left_out(field: Field[Any], tmp_path: Path) -> None:
    shown = few(card())
    if field.name != "curves":
        shown = replace(shown, curves=[])  # drawing takes long
    before, value = page_of(shown, tmp_path), getattr(shown, field.name)
    changes = list(altered(value))
    assert changes, f"{field.name} is empty in the card that this test shows"
    for change in changes:
        assert page_of(replace(shown, **{field.name: change}), tmp_path) != before, f"{field.name}: {change}"


def test_the_card_of_that_test_holds_one_of_everything() -> None:
    held = {type(part) for part in everything(few(card()))}
    assert set(EXAMPLES) <= held
    assert not any(part is None for part in everything(few(card())))


def everything(value: Any) -> Iterator[Any]:
    yield value
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for held in value:
            yield from everything(held)


def test_a_forgotten_field_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.score_page._facts", lambda _: [])
    assert page_of(card(seed=1, curves=[]), tmp_path) == page_of(card(seed=2, curves=[]), tmp_path)


def test_the_page_loads_and_runs_nothing(page: str) -> None:
    found = loads(page)
    assert found.loads == [] and not found.tags & {"script", "link", "iframe", "object", "embed", "form"}
    assert not re.search(r"https?:", page) and "default-src 'none'" in page
    assert "url(" not in re.sub(r"url\(#", "", page)


HOSTILE = "</td><script>alert(1)</script>\"'{{7*7}}[bold red]\x1b[32m\u202e\n$x_"


def poisoned(value: Any) -> Any:
    """The value with every free text in it replaced by a hostile one."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = ("severity", "over", "norm", "view")
        return replace(value, **{f.name: poisoned(getattr(value, f.name)) for f in fields(value) if f.name not in kept})  # pyright: ignore
    if isinstance(value, dict):
        return {name if name in ("title", "text") else HOSTILE + name: poisoned(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([poisoned(held) for held in value])
    return HOSTILE if isinstance(value, str) else value


def test_hostile_texts_are_inert(tmp_path: Path) -> None:
    shown = poisoned(card(doubts=[RED, AMBER]))
    shown = replace(shown, views=[*shown.views, ViewNumber(HOSTILE, share(0.5), {HOSTILE: 0.5})])
    text = page_of(shown, tmp_path)
    found = loads(text)
    assert "script" not in found.tags and found.loads == []
    assert "{{7*7}}" in text and not re.search("[\x1b\u202e]", text)
    printed = terminal(shown)
    assert "\u202e" not in printed and not painted_green(printed)  # neither of its own escapes nor of its markup
    assert "[bold red]" in printed
    assert "<script" in tried(inert(shown))  # words are escaped by the template, not by themselves


def test_the_same_card_gives_the_same_bytes(tmp_path: Path) -> None:
    pages = []
    for name in "ab":
        (tmp_path / name).mkdir()
        add_examples(tmp_path / name)
        write_card(tmp_path / name, card())
        pages.append(build_score_page(read_card(tmp_path / name), tmp_path / name).read_bytes())
    assert pages[0] == pages[1] and pages[0] == build_score_page(card(), tmp_path / "a").read_bytes()


def test_ids_are_unique_and_sections_are_named(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    order = re.findall(r'<section id="(\w+)"', page)
    assert order == ["doubts", "views", "bracket", "strength", "health", "cost", "pictures", "notes", "run"]
    assert re.findall(r'<a href="#(\w+)"', page) == order
    assert {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)} <= set(ids)
    assert page.count("<svg ") == len(re.findall(r'<svg [^>]*role="img" aria-label="', page)) == 4


def test_a_bare_card_leaves_no_empty_section(tmp_path: Path) -> None:
    bare = Card("CLIP", "tiny", "none", {}, "digits", "linf", 4 / 255, "quick", share(0.2), share(0.9), [])
    text = page_of(bare, tmp_path)
    assert re.findall(r'<section id="(\w+)"', text) == ["doubts", "views", "run"]
    assert "do not transfer to CLIP" in text and "None" not in body_of(text)
    assert "Nothing was tried on 500 images of digits." in text and "20.0 %" in terminal(bare)


def test_numbers_that_are_none_do_not_break_the_page(tmp_path: Path) -> None:
    odd = [Health("adaptive", nan, 1.0, 1.0, inf, -1.0, nan, inf)]
    shown = card(health=odd, cost=Cost(1.0, 0.0, 1.0, 0.0, 1), curves=[Curve("steps", "pgd", "bpda", [])])
    text = body_of(page_of(shown, tmp_path))
    assert "undefined" in text and "∞" in text and not re.search(r"\bnan\b|\binf\b", text)
    assert [bar.odd for bar in panel(odd)[0][1]] == [True] * 7


def test_every_measure_of_a_gradient_is_explained_once() -> None:
    assert sorted(m.field for m in MEASURES) == sorted(f.name for f in fields(Health) if f.name != "view")


TITLES = [measure.title for measure in MEASURES]


@pytest.mark.parametrize(
    ("line", "odd"),
    [
        (Health("adaptive", 1.0, 0.5, 0.0, 0.0, 1.0, 1.0, 0.01), set()),
        (Health("adaptive", 0.0009, 0.0, 0.0, 0.0, 1.0, 1.0, 0.01), {"length"}),
        (Health("adaptive", 1001.0, 0.51, 0.01, 0.0, 0.0, 0.0, 0.6), set(TITLES) - {"not finite", "along bpda"}),
        (Health("eot", 1.0, 0.1, 0.0, 0.01, -0.31, 0.0, 0.5), {"not finite", "along bare"}),
        (Health("bpda", 1.0, 0.0, 0.0, 0.0, -0.9, None, 5.0), set()),  # a stand-in is wrong by design
    ],
)
def test_gradients_past_a_limit_are_marked(line: Health, odd: set[str]) -> None:
    ((view, bars),) = panel([line])
    marked = {measure.title for measure, bar in zip(MEASURES, bars, strict=True) if bar.odd}
    assert view == line.view and marked == odd


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.83, "0.83"), (12.34, "12.3"), (0.0004, "0.0004"), (-0.5, "−0.50"), (1234567.0, "1.23e+06")],
)
def test_quantities_are_short(value: float, shown: str) -> None:
    assert quantity(value) == shown


def test_views_are_explained_and_stand_in_their_order(page: str) -> None:
    assert all(view.meaning in page for view in View if view in {v.view for v in card().views})
    rows = re.findall(r'<th scope="row">(\w+)<small>', page[page.index('id="views"') :])
    assert rows[:7] == ["clean", "transfer", "adaptive", "bpda", "gate", "query", "worst"]


def test_the_weakest_spot_of_a_view_stands_out(page: str) -> None:
    assert re.search(r'<span class="least"><small>apgd_t</small>62\.8</span>', page)
    assert len(re.findall(r'<span class="least">', page)) == len(card().views)


def test_words_say_what_was_tried_added_and_hidden() -> None:
    shown = card()
    assert (name_of(shown), threat_of(shown)) == ("R-CLIP_F + ttc", "ℓ∞ 4/255")
    assert attacks_of(shown) == ["apgd_ce", "apgd_t", "fab", "square", "rays"]
    for part in (
        "500 images of imagenet",
        "ℓ∞ 4/255",
        "Five attacks",
        "square and rays",
        "five views",
        "gate and query",
    ):
        assert part in tried(shown)
    assert gap_of(shown) == pytest.approx(0.044)
    assert "4.4 points more" in hidden(shown)
    assert "Without the defence 54.8 %" in beside(shown) and "6.4 points more, and the intervals overlap" in beside(
        shown
    )
    assert "intervals are apart" in beside(card(headline=share(0.7)))
    assert "9.8 points fewer" in beside(card(headline=share(0.45)))
    assert "not to be believed" in beside(card(doubts=[RED]))
    assert beside(card(static={})) == "" and hidden(card(views=[])) == ""


def test_the_bracket_shows_proved_open_and_broken(page: str, tmp_path: Path) -> None:
    assert "--proved:0.406;--between:0.203" in page and "broken: 39.1 %" in page
    alone = page_of(card(bracket=Bracket(0.25, share(0.5), None), curves=[]), tmp_path)
    assert "--proved:0.500;--between:0.500" in alone and "another ball" in alone
    wrong = page_of(card(bracket=Bracket(0.25, share(0.5), share(0.3)), curves=[]), tmp_path)
    assert "More is proved than survives." in wrong and "More is proved" not in page


def test_a_curve_over_eps_starts_at_the_clean_accuracy(page: str, tmp_path: Path) -> None:
    assert "79.8 at 0, 0 at 16" in page and "0.0 % left at 16/255" in page
    assert "−1.6 points from 2 to 5 restarts" in page and "no change from 50 to 100 steps" in page
    with_zero = card(curves=[curve("eps", "pgd", "bpda", (0.0, 0.1), (1 / 255, 0.05))])
    assert "79.8 at 0, 4.69 at 1" in page_of(with_zero, tmp_path)


def test_damaged_pictures_are_one_line(tmp_path: Path) -> None:
    add_examples(tmp_path)
    (tmp_path / "examples.safetensors").unlink()
    with pytest.raises(ConfigError, match="no examples.safetensors in"):
        build_score_page(card(), tmp_path)
    assert not (tmp_path / "index.html").exists()


def test_the_terminal_fits_a_narrow_window() -> None:
    printed = terminal(card(doubts=[RED]), width=60)
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in printed.splitlines()) <= 60
    for part in ("61.2 %", "transfer", "bare encoder, worst", "majority of draws", "+4.4"):
        assert part in printed


@pytest.mark.parametrize("doubted", [{}, {"doubts": [AMBER]}, {"doubts": [AMBER, RED]}, {"artefact": "legacy"}])
def test_a_report_on_the_folder_of_a_scorecard_shows_it_first(doubted: dict[str, Any], tmp_path: Path) -> None:
    shown = card(encoder="<b>CLIP", **doubted)
    write_card(make_run(tmp_path / "run", synthetic()[:4]), shown)
    text = build_report([tmp_path / "run"], tmp_path / "out").read_text()
    assert re.findall(r'<section id="(\w+)"', text)[:2] == ["scorecard", "headline"]
    brief = text[text.index('id="scorecard"') : text.index('id="headline"')]
    assert ("<s>61.2 %</s>" in brief) == (not shown.believable) == ("not to be believed</span>" in brief)
    assert ("<b>61.2 %</b>" in brief) == shown.believable
    assert "<b>CLIP" not in brief and "&lt;b&gt;CLIP + ttc" in brief
    assert (RED.text in brief) == (RED in shown.doubts) and (AMBER.text in brief) == (shown.doubts == [AMBER])


@pytest.mark.parametrize("doubts", [[], [AMBER], [RED]])
def test_a_report_claims_nothing_that_a_scorecard_forbids(doubts: list[Doubt], tmp_path: Path) -> None:
    for name in "ab":  # the two runs disagree, so their encoders are told apart by their labels
        rows = [replace(r, value=0.5) if name == "b" and r.defense == "none" else r for r in synthetic()]
        run = make_run(tmp_path / name, rows)
        write_card(run, card(encoder="R-CLIP_F", defense="ttc", dataset="digits", doubts=doubts))
    for runs in ([tmp_path / "a"], [tmp_path / "a", tmp_path / "b"]):
        text = build_report(runs, tmp_path / "out").read_text()
        lead = text[text.index('class="lead"') : text.index("<nav")]
        assert (f"ttc (artefact: red doubt ({RED.name}))" in lead) == (doubts == [RED])


def test_a_damaged_scorecard_stops_a_report_in_one_line(tmp_path: Path) -> None:
    (make_run(tmp_path / "run", synthetic()[:4]) / "scorecard.json").write_text("{}")
    with pytest.raises(ConfigError, match="make the scorecard again"):
        build_report([tmp_path / "run"], tmp_path / "out")
