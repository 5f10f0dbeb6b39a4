from __future__ import annotations

import pytest

from modules.prior.layouts import LAYOUTS, Release, fitting, layout_of
from tests.modules.prior.goldens import RELEASES, release_in, state_of


@pytest.mark.parametrize(
    ("release", "meaning"),
    [
        ((0, 3, 0), ("dot", "masked", "none", 1)),
        ((0, 15, 4), ("dot", "masked", "none", 1)),
        ((0, 16, 0), ("dot", "masked", "none", 1)),
        ((0, 16, 1), ("dot", "masked", "none", 1024)),
        ((0, 16, 2), ("dot", "masked", "all", 1024)),
        ((0, 22, 3), ("dot", "masked", "all", 1024)),
        ((0, 23, 0), ("dot", "padding", "all", 1024)),
        ((0, 23, 2), ("dot", "padding", "all", 1024)),
        ((0, 23, 3), ("dot", "padding", "last", 128)),
        ((1, 4, 2), ("dot", "padding", "last", 128)),
        ((1, 4, 3), ("cosine", "padding", "last", 1)),
        ((1, 8, 4), ("cosine", "padding", "last", 1)),
        ((1, 9, 0), ("cosine", "text_kept", "last", 1)),
        ((1, 10, 3), ("cosine", "text_kept", "last", 1)),
        ((1, 10, 4), ("cosine", "learned", "last", 1)),
        ((1, 15, 6), ("cosine", "learned", "last", 1)),
    ],
)
def test_a_release_computed_what_its_layout_says(release: Release, meaning: tuple[object, ...]) -> None:
    assert layout_of(release).meaning == meaning


@pytest.mark.parametrize(
    ("release", "tables", "gain"),
    [((0, 10, 1), "", "gamma"), ((0, 11, 0), "noise_scheduler.", "gamma"), ((0, 16, 0), "noise_scheduler.", "g")],
)
def test_a_release_named_its_tensors_as_its_layout_says(release: Release, tables: str, gain: str) -> None:
    assert (layout_of(release).tables, layout_of(release).gain) == (tables, gain)


def test_the_layouts_follow_each_other_without_a_gap() -> None:
    for before, after in zip(LAYOUTS, LAYOUTS[1:], strict=False):
        assert before.first < after.first == before.until
    assert LAYOUTS[-1].until is None
    assert LAYOUTS[-1].releases == "1.10.4 to 1.15.6"


@pytest.mark.parametrize("release", [(0, 2, 46), (1, 15, 7), (2, 0, 0)])
def test_a_release_that_nobody_looked_at_is_refused(release: Release) -> None:
    with pytest.raises(ValueError, match=r"is not known \(0\.3\.0 to 1\.15\.6 are\); say --source-version"):
        layout_of(release)


@pytest.mark.parametrize("name", RELEASES)
def test_the_names_in_a_file_fit_its_own_release(name: str) -> None:
    names = list(state_of(name))
    net = [n.removeprefix("net.") for n in names if n.startswith("net.")]
    tables = "noise_scheduler." if "noise_scheduler.betas" in names else ""
    assert layout_of(release_in(name)) in fitting(net, tables)
    assert layout_of(release_in(name)) in fitting(net, None)


def test_names_tell_old_releases_apart_but_not_the_change_of_attention() -> None:
    def possible(name: str) -> set[object]:
        net = [n.removeprefix("net.") for n in state_of(name) if n.startswith("net.")]
        return {layout.attention for layout in fitting(net, None)}

    assert possible("0.6.0") == {"dot"}
    assert possible("1.4.2") == possible("1.4.3") == {"dot", "cosine"}


def test_another_attention_brings_the_factor_of_the_release_that_had_it() -> None:
    assert layout_of((1, 4, 2)).with_attention("cosine").meaning == layout_of((1, 4, 3)).meaning
    assert layout_of((1, 4, 3)).with_attention("dot").meaning == layout_of((1, 4, 2)).meaning
    same = layout_of((0, 15, 4))
    assert same.with_attention("dot") is same and same.with_attention(None) is same
