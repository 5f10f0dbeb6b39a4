"""A stream reads every sample without an index, goes on where it was, and counts what is bad."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import pytest
import torch

from data.batches import ImageBatch
from data.catalog import open_images
from data.reading import Reading
from data.shards import write_shards
from data.stream import ImageStream, open_stream
from data.stream_faults import StreamFaults
from tests.data.web import web

Picture = Callable[..., bytes]
MakeTar = Callable[[Path, Sequence[object]], Path]
N = 40


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    """40 pictures in 5 shards, with labels and captions."""
    samples = [
        {"__key__": f"s{i:02d}", "png": picture(i, (9, 8)), "cls": str(i % 2), "txt": f"no {i}"} for i in range(N)
    ]
    write_shards(tmp_path / "set" / "train", samples, per_shard=8)
    (tmp_path / "set" / "classnames.txt").write_text("even\nodd\n")
    return tmp_path / "set"


def opened(where: object, cache: Path, **settings: object) -> ImageStream:
    reading = Reading(cache_dir=str(cache), max_bad=float(settings.pop("max_bad", 1.0)))  # pyright: ignore[reportArgumentType]
    return open_stream(str(where), "train", 8, reading=reading, **settings)  # pyright: ignore[reportArgumentType]


def batches(source: ImageStream, count: int, **settings: int) -> list[ImageBatch]:
    told = {"batch_size": 4, "workers": 0, "seed": 3, **settings}
    return list(islice(source.loader(**told), count))


def keys(found: Sequence[ImageBatch]) -> list[str]:
    return [key for batch in found for key in batch.key]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_epoch_of_one_reader_holds_each_sample_once_and_pixels_are_those_of_the_index(
    workers: int, folder: Path, tmp_path: Path
) -> None:
    found = batches(opened(folder, tmp_path / "c", buffer=1), N // 4, workers=workers)
    assert not list(tmp_path.rglob("*.index"))
    by_index = open_images(str(folder), "train", 8)
    place = {f"{i // 8}/{key}": i for i, key in enumerate(by_index.keys)}
    if workers < 2:  # two readers come to the end of their shards at different times
        assert Counter(keys(found)) == Counter(list(place))
    for batch in found:
        for x, y, key, caption in zip(batch.x, batch.y, batch.key, batch.caption or (), strict=True):
            sample = by_index[place[key]]
            assert torch.equal(x, sample.x) and (int(y), caption) == (sample.y, sample.caption)
    mixed = keys(batches(opened(folder, tmp_path / "c", buffer=7), N // 4, workers=workers))
    assert len(set(mixed)) >= N - 2 * 8 and mixed != keys(found)  # an epoch's end mixes with the next one's beginning


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("seen", [1, 7, 12])
def test_a_stream_goes_on_exactly_where_it_was(
    workers: int, seen: int, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = keys(batches(opened(folder, tmp_path / "c", buffer=5), 16, workers=workers))
    rest = batches(opened(folder, tmp_path / "c", buffer=5), 16 - seen, workers=workers, start_batch=seen)
    assert keys(rest) == whole[4 * seen :]
    assert caplog.text.count(f"passing over the {4 * seen} samples that were seen") == 1


def test_ranks_share_the_shards_and_make_equally_many_steps(folder: Path, tmp_path: Path) -> None:
    source = opened(folder, tmp_path / "c", buffer=1)
    ranks = [batches(source, 4, rank=rank, world_size=2) for rank in range(2)]
    assert all(len(batch) == 2 for rank in ranks for batch in rank)
    assert not set(keys(ranks[0])) & set(keys(ranks[1]))
    many = [batches(source, 3, rank=rank, world_size=4, workers=2) for rank in range(4)]  # 8 readers of 5 shards
    assert [len(rank) for rank in many] == [3, 3, 3, 3]


def test_bad_samples_are_replaced_within_their_batch_and_counted(
    folder: Path, tmp_path: Path, make_tar: MakeTar, picture: Picture
) -> None:
    members: list[object] = []
    for i in range(8):
        members += [(f"t{i}.png", b"<html>" if i in (2, 5) else picture(i, (8, 8))), (f"t{i}.cls", b"1")]
    tar = make_tar(tmp_path / "bad.tar", [*members, ("x.pyd", b"evil"), ("../y.png", b"out")])
    source = opened(tar, tmp_path / "c", skip_bad=True, buffer=1)
    found = batches(source, 3, workers=1)
    assert all(len(batch) == 4 and torch.isfinite(batch.x).all() for batch in found)
    assert not {"bad/t2", "bad/t5"} & set(keys(found))
    counts = source.faults.counts()
    assert counts["bad"]["not an image"] >= 2 and counts["samples"] >= 8
    assert counts["refused"]["pickled"] >= 1 and counts["refused"]["path leaves the folder"] >= 1
    with pytest.raises(ValueError, match="not an image .*key 'bad/t"):
        batches(opened(tar, tmp_path / "c"), 3)


def test_too_many_bad_samples_end_it(tmp_path: Path, make_tar: MakeTar, picture: Picture) -> None:
    members = [(f"t{i}.png", b"no" if i % 2 else picture(i)) for i in range(60)]
    source = opened(make_tar(tmp_path / "x.tar", members), tmp_path / "c", skip_bad=True, max_bad=0.01)
    with pytest.raises(ValueError, match=r"^11 of \d+ images of '.*' are bad \(11 not an image\)"):
        batches(source, 30)


def test_a_cut_shard_gives_its_whole_samples_or_ends_the_run(folder: Path, tmp_path: Path) -> None:
    last = folder / "train" / "4.tar"
    last.write_bytes(last.read_bytes()[:5000])
    source = opened(folder, tmp_path / "c", skip_bad=True, buffer=1)
    found = Counter(keys(batches(source, 9)))
    assert len(found) >= 32 and source.faults.counts()["refused"]["damaged shard"] >= 1
    with pytest.raises(ValueError, match="damaged or cut short|not a readable"):
        batches(opened(folder, tmp_path / "c", buffer=1), 12)


def test_shards_without_samples_are_an_error_and_no_endless_search(tmp_path: Path, make_tar: MakeTar) -> None:
    tar = make_tar(tmp_path / "empty.tar", [])
    with pytest.raises(ValueError, match=r"^the 1 shards of .* hold no samples"):
        batches(opened(tar, tmp_path / "c", skip_bad=True), 1)


def test_shards_elsewhere_come_whole_and_unindexed(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c"
    with web(folder) as site:
        source = opened(f"{site.url}/train/{{0..4}}.tar", cache, buffer=1)
        assert not [path for path in site.asked if path.endswith(".tar")]
        loader = source.loader(batch_size=4, workers=1, seed=3)
        found = list(islice(loader, N // 4))
        del loader
        assert len(set(keys(found))) == N and source.classes == ["even", "odd"]
        assert not [path for path in site.asked if path.endswith(".index")]
    assert not list((cache / "indexes").glob("*.index"))


def test_what_needs_an_index_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^'digits' is embedded"):
        opened("digits", tmp_path / "c")
    with pytest.raises(ValueError, match="^data.order=samples needs an index"):
        open_stream(str(folder), "train", 8, reading=Reading(order="samples"))
    source = opened(folder, tmp_path / "c")
    with pytest.raises(TypeError, match="only training reads streams"):
        len(source)
    with pytest.raises(ValueError, match="choose a multiple of 3"):
        source.loader(batch_size=4, world_size=3, workers=0, seed=0)


def test_totals_of_other_processes_and_of_the_past_are_added() -> None:
    one, other = StreamFaults("x", 2), StreamFaults("x", 1)
    one.note(0, "samples", 600)
    one.note(1, "empty", 7)
    other.note(0, "samples", 600)
    other.note(0, "empty", 6)
    one.max_share = 0.01
    one.check()
    one.take(other.news(), 1)
    with pytest.raises(ValueError, match="^13 of 1200 images of 'x' are bad"):
        one.check()
    again = StreamFaults("x")
    again.restore(one.plain())
    assert again.counts() == one.counts() and again.news()[0] == 0
