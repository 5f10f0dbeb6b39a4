from __future__ import annotations

import builtins

import pytest

from data.benchmarks.registry import entries, protocols
from data.benchmarks.texts import digest
from modules.zero_shot.published import LISTS, published


@pytest.mark.parametrize("name", sorted(LISTS))
def test_installed_packages_have_the_lists_that_the_catalog_means(name: str) -> None:
    lines = published(name)
    uses = [
        texts for p in protocols() for one in entries(p) for texts in (one.names, one.templates) if texts.name == name
    ]
    assert uses
    for texts in uses:
        assert texts.sha256 in ("", digest(lines))
        assert texts.count in (None, len(lines))


def test_the_999_names_lack_the_maillot_and_the_200_are_among_the_1000() -> None:
    every, fewer = published("open_clip.imagenet_names"), published("open_clip.imagenet_names_without_n03710637")
    assert (len(every), len(fewer), every[638], every[639]) == (1000, 999, "tights", fewer[638])
    assert len(set(every)) == 998
    some = published("timm.imagenet_r_names")
    assert len(some) == 200 and set(some) <= set(every) and some[0] == "goldfish"


def test_a_package_without_the_list_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object) -> object:
        if name.startswith("open_clip"):
            raise ImportError(name)
        return real(name, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ValueError, match="the installed open_clip has no open_clip.imagenet_names"):
        published("open_clip.imagenet_names")
