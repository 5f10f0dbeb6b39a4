from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import modules.views
from configs.schema import ScorecardConfig, ViewName
from modules import defenses
from modules.views import Trait, View, is_view, meaning_of, order_of
from tests.waiting import CEILING

# the definition in the docstring, view by view
TRAITS: dict[View, set[str]] = {
    View.transfer: {"past", "blunt"},
    View.adaptive: {"through", "own", "exact"},
    View.bpda: {"through", "blunt"},
    View.eot: {"through", "own", "exact"},
    View.smooth: {"through", "own"},
    View.gate: {"through", "own"},
    View.surrogate: {"through", "own"},
    View.trajectory: {"through", "own"},
    View.ensemble: {"through"},
    View.query: {"gradient_free"},
    View.released: set(),
}


@pytest.mark.parametrize("view", TRAITS)
def test_every_view_has_the_traits_of_its_definition(view: View) -> None:
    assert {trait for trait in get_args(Trait) if getattr(view, trait)} == TRAITS[view]


@pytest.mark.parametrize("view", View)
def test_traits_do_not_contradict_one_another(view: View) -> None:
    assert view.through or not view.own, "who follows the defense's gradient looks through it"
    assert view.own or not view.exact
    assert not (view.own and view.blunt)
    assert not (view.gradient_free and (view.through or view.blunt))
    assert view.meaning and view.name == view.value == str(view)


@pytest.mark.parametrize("name", ["original", "worst", "none", "a view of a later version", "through", ""])
def test_a_name_that_is_no_view_has_no_trait_no_meaning_and_the_last_place(name: str) -> None:
    assert not any(is_view(name, trait) for trait in get_args(Trait))
    assert meaning_of(name) == ""
    assert order_of(name) == len(View)


def test_a_plain_name_is_read_like_its_view() -> None:
    for place, view in enumerate(View):
        assert all(is_view(view.value, trait) == getattr(view, trait) for trait in get_args(Trait))
        assert (meaning_of(view.value), order_of(view.value)) == (view.meaning, place)


def test_a_view_survives_pickle_and_is_its_name_in_json() -> None:
    for view in View:
        assert pickle.loads(pickle.dumps(view)) is view
        assert json.loads(json.dumps(view)) == view.value


def test_recipes_and_defenses_know_the_same_views() -> None:
    assert list(get_args(ViewName)) == [*View]
    assert ScorecardConfig().views == [*View]
    assert defenses.View is View


def test_the_list_of_views_needs_no_torch() -> None:
    code = "import sys, modules.views, eval.tables, eval.score_words; assert 'torch' not in sys.modules"
    root = Path(modules.views.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=CEILING)
