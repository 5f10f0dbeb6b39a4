"""Lists of shards and folders of shards elsewhere are read, and lead nowhere else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from data import download
from data.catalog import locate, open_images
from data.make import make_from_sample
from data.shard_cache import ShardCache
from data.shard_lists import shards_of_list
from tests.data.web import Web, web


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lists")
    make_from_sample("digits", root / "numbers", per_shard=100)
    return root


@pytest.fixture
def site(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setenv("ROBUSTCLIP_CACHE", str(tmp_path / "cache"))
    shutil.copytree(made, tmp_path / "site")
    with web(tmp_path / "site") as server:
        yield server


@pytest.mark.parametrize("place", ["numbers", "numbers/", "numbers/test", "numbers/test/nshards.txt", "numbers?key=1"])
def test_a_folder_elsewhere_is_the_folder_here(place: str, site: Web, made: Path) -> None:
    there = open_images(f"{site.url}/{place}", "test", 32)
    here = open_images(str(made / "numbers"), "test", 32)
    assert (there.name, there.classes, there.templates) == (here.name, here.classes, here.templates)
    assert there.keys == here.keys and torch.equal(there[217].x, here[217].x)


@pytest.mark.parametrize(
    ("said", "told"),
    [(None, r"^no '.*/other/nshards.txt'; a folder of shards holds"), ("<html>", "says '<html>' where"), ("0", "'0'")],
)
def test_a_folder_elsewhere_without_a_number_is_one_line(said: str | None, told: str, site: Web) -> None:
    if said is not None:
        (site.folder / "numbers" / "other").mkdir()
        (site.folder / "numbers" / "other" / "nshards.txt").write_text(said)
    with pytest.raises(ValueError, match=told):
        locate(f"{site.url}/numbers", "other")


def test_a_list_here_names_what_lies_beside_it_and_elsewhere(made: Path, site: Web, tmp_path: Path) -> None:
    shutil.copytree(made / "numbers" / "test", tmp_path / "set")
    places = ["# mine", "2.tar", "", str(made / "numbers" / "test" / "0.tar"), f"{site.url}/numbers/test/1.tar"]
    (tmp_path / "set" / "some.txt").write_text("\n".join(places))
    found = locate(str(tmp_path / "set" / "some.txt"), "test")
    assert found.urls == [str(tmp_path / "set" / "2.tar"), places[3], places[4]]
    assert len(open_images(str(tmp_path / "set" / "some.txt"), "test", 32)) == 300


def test_a_list_elsewhere_names_what_lies_beside_it(site: Web) -> None:
    (site.folder / "numbers" / "all.txt").write_text("test/0.tar\ntest/1.tar\ntest/2.tar\n")
    source = open_images(f"{site.url}/numbers/all.txt", "test", 32)
    assert len(source) == 300 and source.classes[0] == "zero"


BAD = [
    "pipe:touch canary",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/x.tar",
    "http://[::ffff:169.254.169.254]/x.tar",
    "http://metadata.google.internal/x.tar",
    "simplecache::http://host/x.tar",
    "ftp://host/x.tar",
    "../0.tar",
    "a/../../0.tar",
    "a\\..\\0.tar",
    "0.tar\x1b[31m",
]


@pytest.mark.parametrize("bad", [*BAD, "/etc/passwd"])
def test_a_list_elsewhere_leads_nowhere_else(bad: str, site: Web, tmp_path: Path) -> None:
    (site.folder / "list.txt").write_text(f"numbers/test/0.tar\n{bad}\n")
    with pytest.raises(ValueError, match=r"^'.*list.txt' has 1 fault: line 2: ") as refused:
        locate(f"{site.url}/list.txt", "test")
    assert "\n" not in str(refused.value) and not (tmp_path / "canary").exists()
    assert not [path for path in site.asked if path.endswith(".tar")]


@pytest.mark.parametrize("bad", [*BAD, "not-there.tar"])
def test_a_list_here_that_somebody_else_wrote_leads_nowhere_else(bad: str, tmp_path: Path) -> None:
    (tmp_path / "0.tar").touch()
    (tmp_path / "list.txt").write_text(f"0.tar\n{bad}\n")
    with pytest.raises(ValueError, match=r"^'.*list.txt' has 1 fault: line 2: "):
        shards_of_list(str(tmp_path / "list.txt"), ShardCache(tmp_path / "cache"))


def test_empty_doubled_and_missing_lists_are_named(site: Web, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="names 0 shards"):
        shards_of_list(str(tmp_path / "empty.txt"), cache)
    (tmp_path / "0.tar").touch()
    (tmp_path / "twice.txt").write_text("0.tar\n0.tar\n")
    with pytest.raises(ValueError, match="0.tar' stands there twice"):
        shards_of_list(str(tmp_path / "twice.txt"), cache)
    for place in (str(tmp_path / "no.txt"), f"{site.url}/no.txt"):
        with pytest.raises(ValueError, match="^no list '"):
            shards_of_list(place, cache)
