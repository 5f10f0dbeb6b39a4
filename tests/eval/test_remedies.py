from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from eval.card import Doubt, read_card, write_card
from eval.remedies import REMEDIES, remedy_of
from eval.score_page import build_score_page
from eval.score_table import score_table
from modules.views import View
from tests.eval.score_cards import card

ROOT = Path(__file__).parents[2]
FOLDERS = ("eval", "launch", "train", "modules")
KNOWN = Doubt("not_converged", "amber", "Twice the steps still lower the accuracy.")
UNKNOWN = Doubt("of_a_later_version", "red", "It is masked.")


def names(call: ast.Call) -> list[str]:
    """The names that a call of ``Doubt`` can give; of an f-string those with each blunt view in its place."""
    first = call.args[0] if call.args else next(word.value for word in call.keywords if word.arg == "name")
    match first:
        case ast.Constant(value=str(name)):
            return [name]
        case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(rest))]):
            return [f"{view}{rest}" for view in View if view.blunt]
        case _:
            raise AssertionError(f"line {call.lineno}: write the doubt's name where it is made")


def raised() -> Iterator[tuple[str, str]]:
    """Every name of a doubt in the source, with the file that raises it."""
    for file in (file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Doubt"):
                continue
            if all(word.arg for word in node.keywords):  # not Doubt(**stored)
                yield from ((file.name, name) for name in names(node))


def test_every_doubt_in_the_source_has_a_remedy() -> None:
    found = list(raised())
    assert len(found) > 40
    assert [pair for pair in found if pair[1] not in REMEDIES] == []


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_is_one_sentence_and_a_command(name: str) -> None:
    text = REMEDIES[name]
    assert text[0].isupper() and text.endswith(".") and ". " not in text
    assert len(text) <= 200 and "defence" not in text


def test_the_remedy_of_a_name_that_nobody_knows_is_empty_and_a_stored_card_stays_readable(tmp_path: Path) -> None:
    assert UNKNOWN.remedy == remedy_of("of_a_later_version") == ""
    shown = replace(card(), doubts=[KNOWN, UNKNOWN])
    write_card(tmp_path, shown)
    assert "remedy" not in (tmp_path / "scorecard.json").read_text()
    assert read_card(tmp_path) == shown and read_card(tmp_path).doubts[0].remedy == REMEDIES["not_converged"]


def test_table_and_page_show_the_remedy_beneath_its_doubt(tmp_path: Path) -> None:
    shown = replace(card(), doubts=[KNOWN, UNKNOWN])
    out = io.StringIO()
    Console(file=out, width=200).print(score_table(shown))
    lines = [line.strip() for line in out.getvalue().splitlines()]
    at = next(i for i, line in enumerate(lines) if KNOWN.text in line)
    assert lines[at + 1] == f"→ {KNOWN.remedy}"
    assert out.getvalue().count("→") == 1
    page = build_score_page(shown, tmp_path).read_text()
    assert f'<p>{KNOWN.text}</p><p class="remedy">{KNOWN.remedy}</p>' in page
    assert page.count('class="remedy"') == 1
