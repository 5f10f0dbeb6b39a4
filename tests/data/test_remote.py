"""Shards behind addresses give the same samples as shards in a folder."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from data import download
from data.catalog import open_images
from data.images import evaluation_batches, training_loader
from data.index_store import find_index
from data.make import make_from_sample
from data.plan import PositionBatches
from data.reading import Reading
from data.sample import digits
from data.shard_cache import GIB
from data.shard_order import ShardOrder
from data.shards import expand
from data.source import choose_images
from tests.data.web import Web, web

TARS = "numbers/test/{0..5}.tar"
N = len(digits("test"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("remote")
    make_from_sample("digits", root / "numbers", per_shard=50)
    return root


@pytest.fixture
def numbers(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "here"))


@pytest.fixture
def site(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setenv("ROBUSTCLIP_CACHE", str(tmp_path / "cache"))
    shutil.copytree(made, tmp_path / "site")
    with web(tmp_path / "site") as server:
        yield server


def _shards_asked(site: Web) -> dict[str, int]:
    return {path: count for path, count in site.asked.items() if path.endswith(".tar")}


def test_pictures_from_a_web_server_are_those_in_the_folder(site: Web, numbers: Path) -> None:
    here, there = open_images(f"{numbers}/{TARS}", "test", 32), open_images(f"{site.url}/{TARS}", "test", 32)
    assert there.keys == here.keys and there.classes == here.classes and there.templates == here.templates
    assert here.name == there.name == "test"
    for ours, theirs in zip(evaluation_batches(here, 64), evaluation_batches(there, 64), strict=True):
        assert torch.equal(ours.x, theirs.x) and torch.equal(ours.y, theirs.y) and ours.key == theirs.key
    assert max(site.asked.values()) == 1


def test_the_second_time_nothing_is_asked_for(site: Web, caplog: pytest.LogCaptureFixture) -> None:
    assert open_images(f"{site.url}/{TARS}", "test", 32)[N - 1].key == digits("test").keys[N - 1]
    site.asked.clear()
    again = open_images(f"{site.url}/{TARS}", "test", 32)
    assert again[N - 1].key == digits("test").keys[N - 1] and again[0].x.shape == (3, 32, 32)
    assert not site.asked and not caplog.messages


def test_an_index_beside_the_shards_saves_fetching_them(site: Web) -> None:
    for path in expand(f"{site.folder}/{TARS}"):
        find_index(Path(path))
    source = open_images(f"{site.url}/{TARS}", "test", 32)
    assert len(source) == N and not _shards_asked(site)
    assert source[77].key == digits("test").keys[77]
    assert _shards_asked(site) == {"/numbers/test/1.tar": 1}


def test_a_shard_that_changed_since_it_was_indexed_is_named(site: Web) -> None:
    url = f"{site.url}/numbers/test/0.tar"
    (site.folder / "numbers/test/index.json").unlink()
    open_images(url, "test", 32)
    shutil.rmtree(site.folder.parent / "cache/shards")
    with (site.folder / "numbers/test/0.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(ValueError, match=r"0\.tar' has \d+ bytes, and had \d+ when it was indexed; index it again"):
        open_images(url, "test", 32)[0]


def test_a_false_index_leads_nowhere(site: Web) -> None:
    (site.folder / "numbers/test/0.tar.index").write_bytes(b"nonsense")
    assert len(open_images(f"{site.url}/numbers/test/0.tar", "test", 32)) == 50
    assert _shards_asked(site) == {"/numbers/test/0.tar": 1}


def test_a_damaged_shard_fails_or_gives_its_whole_samples(site: Web, caplog: pytest.LogCaptureFixture) -> None:
    path = site.folder / "numbers/test/0.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (path.parent / "index.json").unlink()
    with pytest.raises(ValueError, match=r"0\.tar' is damaged or cut short"):
        open_images(f"{site.url}/numbers/test/0.tar", "test", 32)
    with caplog.at_level(logging.WARNING):
        source = open_images(f"{site.url}/numbers/test/0.tar", "test", 32, skip_bad=True)
    assert 0 < len(source) < 50 and "kept the whole samples only" in caplog.messages[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_through_a_small_cache_fetching_each_shard_about_once(workers: int, site: Web) -> None:
    for path in expand(f"{site.folder}/{TARS}"):
        find_index(Path(path))
    sizes = max(path.stat().st_size for path in (site.folder / "numbers/test").glob("*.tar"))
    reading = Reading(window=2, cache=3.2 * sizes / GIB)
    source = open_images(f"{site.url}/{TARS}", "test", 32, reading=reading)
    assert isinstance(source.shuffle, ShardOrder)
    order = PositionBatches(n=N, batch_size=N // 15, seed=3, shuffle=source.shuffle, limit=15)
    keys = [key for batch in training_loader(source, order, workers, seed=0) for key in batch.key]
    assert sorted(keys) == sorted(digits("test").keys)
    asked = _shards_asked(site)
    # one shard is wanted at both ends of the circle; these are so small that workers run whole shards ahead of others
    assert len(asked) == 6 and sum(asked.values()) <= (6 + 3 if workers == 0 else 2 * 6 + 3)


def test_what_the_cache_cannot_hold_is_said_before_anything_starts(site: Web) -> None:
    sizes = max(path.stat().st_size for path in (site.folder / "numbers/test").glob("*.tar")) / GIB
    where = f"{site.url}/{TARS}"
    with pytest.raises(
        ValueError, match=r"^2 shards \(data\.window\) and the next one take .*raise data\.cache or lower"
    ):
        open_images(where, "test", 32, reading=Reading(window=2, cache=2.5 * sizes))
    with pytest.raises(ValueError, match=r"^all shards, which order=samples needs.*say data\.order=shards"):
        open_images(where, "test", 32, reading=Reading(order="samples", cache=4 * sizes))
    assert open_images(where, "test", 32, reading=Reading(order="samples")).shuffle is True


def test_local_shards_are_mixed_whole_unless_told_otherwise(numbers: Path) -> None:
    here = f"{numbers}/{TARS}"
    assert open_images(here, "test", 32).shuffle is True
    order = open_images(here, "test", 32, reading=Reading(order="shards", window=3)).shuffle
    assert isinstance(order, ShardOrder) and order.counts.sum() == N and order.window == 3
    assert choose_images(open_images(here, "test", 32, reading=Reading(order="shards")), 30, seed=1).shuffle is not True


def test_a_shard_that_is_not_there_is_one_line(site: Web) -> None:
    with pytest.raises(ValueError, match=r"^no file 'http://.*/9\.tar' that can be read \(HTTP 404") as caught:
        open_images(f"{site.url}/numbers/test/{{9..10}}.tar", "test", 32)
    assert "\n" not in str(caught.value)
    source = open_images(f"{site.url}/numbers/test/0.tar", "test", 32)
    shutil.rmtree(site.folder.parent / "cache/shards")
    site.broken["/numbers/test/0.tar"] = [503] * 9
    order = PositionBatches(n=50, batch_size=5, seed=0, limit=1)
    with pytest.raises(ValueError, match=r"cannot fetch 'http://.*/0\.tar' after 5 tries: HTTP 503") as caught:
        list(training_loader(source, order, 1, seed=0))
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()  # the worker of a loader that failed is waited for


@pytest.mark.parametrize("cache", [0, -1.0])
def test_settings_that_cannot_be_are_refused(cache: float) -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        Reading(cache=cache)
    with pytest.raises(ValueError, match="is no share"):
        Reading(max_bad=1.5)
