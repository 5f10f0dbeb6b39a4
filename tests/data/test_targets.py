"""Targets: each sample gets its own, bit for bit, and nothing else is taken for them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.batches import ImageSample, collate_images
from data.source import ArrayImages, ImageSource
from data.target_parts import PartBatches, missing_parts, prepare, write_parts
from data.targeted import TargetedImages
from data.targets import FILE, Header, Targets, digest_of

DIM = 5
KEYS = [f"photo/{i:03d}" for i in range(700)]
HEADER = Header.of(KEYS, encoder="e1", pictures="as they are", dim=DIM)


def value(index: int) -> np.ndarray:
    """What the slow, obvious encoder says of a sample."""
    return np.random.default_rng(index).standard_normal(DIM).astype(np.float32) / 3


def batches(parts: Sequence[int], *, unread: Sequence[int] = ()) -> Iterator[tuple[list[str], np.ndarray]]:
    for indices in PartBatches(HEADER, parts, 100):
        names = ["another" if i in unread else KEYS[i] for i in indices]
        yield names, np.stack([value(i) for i in indices])


def made(folder: Path, parts: Sequence[int] | None = None, **settings: Sequence[int]) -> Path:
    header = prepare(folder, HEADER)
    chosen = missing_parts(folder, header) if parts is None else parts
    for _ in write_parts(folder, header, chosen, KEYS, batches(chosen, **settings)):
        pass
    return folder


def opened(folder: Path) -> Targets:
    return Targets(folder, HEADER, KEYS)


def test_every_sample_gets_its_own_target_bit_for_bit(tmp_path: Path) -> None:
    targets = opened(made(tmp_path / "targets"))
    assert len(targets) == 700 and HEADER.parts == 3
    for index in (0, 255, 256, 511, 512, 699):
        assert targets[index].dtype == torch.float32
        assert targets[index].numpy().tobytes() == value(index).tobytes()


def test_a_file_is_a_table_that_numpy_reads(tmp_path: Path) -> None:
    table = np.load(made(tmp_path / "targets") / "00001.npy", allow_pickle=False)
    assert np.array_equal(table["target"][3], value(259))


def test_targets_are_read_in_another_process_too(tmp_path: Path) -> None:
    targets = opened(made(tmp_path / "targets"))
    again = pickle.loads(pickle.dumps(targets))
    assert torch.equal(again[300], targets[300])


def test_an_interrupted_making_goes_on_with_the_parts_that_are_missing(tmp_path: Path) -> None:
    folder, header = tmp_path / "targets", prepare(tmp_path / "targets", HEADER)
    making = write_parts(folder, header, [0, 1, 2], KEYS, batches([0, 1, 2]))
    for _ in range(5):  # the first part, and a piece of the second
        next(making)
    del making
    assert missing_parts(folder, header) == [1, 2]
    with pytest.raises(ValueError, match=r"00001\.npy' is missing; remove it, and its targets are made anew"):
        opened(folder)
    assert torch.equal(opened(made(folder))[600], torch.from_numpy(value(600)))


def test_processes_that_share_the_parts_leave_the_files_of_one(tmp_path: Path) -> None:
    alone = made(tmp_path / "alone")
    shared = made(made(tmp_path / "shared", [1]), [0, 2])
    assert {p.name: p.read_bytes() for p in alone.iterdir()} == {p.name: p.read_bytes() for p in shared.iterdir()}


def test_batches_of_parts_hold_each_sample_once_and_stay_within_a_part() -> None:
    parts = PartBatches(HEADER, [2, 0], 100)
    assert [i for batch in parts for i in batch] == [*range(512, 700), *range(256)]
    assert [len(batch) for batch in parts] == [100, 88, 100, 100, 56] and len(parts) == 5
    assert len(PartBatches(HEADER, [], 100)) == 0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"encoder": "e2"}, r"of another encoder \(e1, not e2\)"),
        ({"pictures": "shorter side 224"}, "of pictures that are prepared otherwise"),
        ({"dim": 6}, r"of another size \(5, not 6\)"),
        ({"count": 699}, "of another number of samples"),
        ({"keys": digest_of(KEYS[::-1])}, "of other samples, or of these in another order"),
    ],
)
def test_targets_of_something_else_are_refused_in_a_line(tmp_path: Path, changed: dict[str, object], told: str) -> None:
    folder = made(tmp_path / "targets")
    wanted = replace(HEADER, **changed)
    with pytest.raises(ValueError, match=rf"{told}.*; name another folder as data\.targets") as error:
        Targets(folder, wanted, KEYS)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=told):
        prepare(folder, wanted)


@pytest.mark.parametrize("place", [0, 3, 4, 20])
def test_one_flipped_bit_is_found_in_its_row_and_nowhere_else(tmp_path: Path, place: int) -> None:
    folder = made(tmp_path / "targets")
    path = folder / "00001.npy"
    content = bytearray(path.read_bytes())
    row = len(content) - 256 * HEADER.row_type.itemsize + 7 * HEADER.row_type.itemsize
    content[row + place] ^= 1
    path.write_bytes(content)
    targets = opened(folder)
    assert torch.equal(targets[262], torch.from_numpy(value(262)))
    with pytest.raises(ValueError, match=r"target of 'photo/263' in '.*00001\.npy' is damaged; remove that file"):
        targets[263]


def test_a_row_of_another_sample_is_found(tmp_path: Path) -> None:
    folder = made(tmp_path / "targets")
    path, size = folder / "00000.npy", HEADER.row_type.itemsize
    content = path.read_bytes()
    head, rows = content[: -256 * size], content[-256 * size :]
    path.write_bytes(head + rows[size : 2 * size] + rows[:size] + rows[2 * size :])
    with pytest.raises(ValueError, match="target of 'photo/000' .* is damaged"):
        opened(folder)[0]


def test_a_part_that_is_cut_or_foreign_is_refused_at_once(tmp_path: Path) -> None:
    folder = made(tmp_path / "targets")
    path = folder / "00002.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"00002\.npy' has \d+ bytes instead of \d+; remove it"):
        opened(folder)
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(ValueError, match=r"00002\.npy' is no part of these targets"):
        opened(folder)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "robustclip-targets/9"}'])
def test_a_damaged_header_is_refused_in_a_line(tmp_path: Path, content: str) -> None:
    folder = made(tmp_path / "targets")
    (folder / FILE).write_text(content)
    with pytest.raises(ValueError, match=r"targets\.json' is damaged .*; remove the folder"):
        opened(folder)
    said = json.loads(json.dumps({"format": "robustclip-targets/1", **vars(HEADER)} | {"dim": "5"}, default=str))
    (folder / FILE).write_text(json.dumps({k: v for k, v in said.items() if k != "row_type"}))
    with pytest.raises(ValueError, match="is damaged"):
        opened(folder)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds other files and no targets"):
        prepare(tmp_path, HEADER)
    with pytest.raises(ValueError, match="is a file; data.targets names a folder"):
        prepare(tmp_path / "letter.txt", HEADER)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_targets_that_do_not_fit_on_the_disk_are_refused_before_any_is_made(tmp_path: Path) -> None:
    huge = replace(HEADER, count=10**13)
    huge = replace(huge, per_part=10**12)
    with pytest.raises(ValueError, match=r"targets take \d+\.\d GiB in .*, where .* are free"):
        prepare(tmp_path / "targets", huge)


def test_a_value_that_is_not_finite_is_no_target(tmp_path: Path) -> None:
    header = prepare(tmp_path / "targets", HEADER)
    bad = [(KEYS[:256], np.full((256, DIM), np.inf, np.float32))]
    with pytest.raises(ValueError, match="embedding of 'photo/000' is not finite"):
        list(write_parts(tmp_path / "targets", header, [0], KEYS, bad))


def test_what_could_not_be_read_has_no_target_and_says_so(tmp_path: Path) -> None:
    targets = opened(made(tmp_path / "targets", unread=[300]))
    assert torch.equal(targets[301], torch.from_numpy(value(301)))
    with pytest.raises(ValueError, match="'photo/300' has no target: it could not be read when they were made"):
        targets[300]


class Patchy(ImageSource):
    """Pictures of which some are bad: the next good one comes instead."""

    def __init__(self, bad: Sequence[int]) -> None:
        super().__init__(name="patchy", keys=KEYS, classes=(), templates=())
        self.wrong = set(bad)

    def __getitem__(self, index: int) -> ImageSample:
        while index in self.wrong:
            index = (index + 1) % len(self)
        return ImageSample(torch.zeros(3, 2, 2), -1, self.keys[index])


def test_a_picture_that_stands_in_for_a_bad_one_brings_its_own_target(tmp_path: Path) -> None:
    source = TargetedImages(Patchy([5, 6, 699]))
    source.targets = opened(made(tmp_path / "targets", unread=[5, 6, 699]))
    for index, stands in ((5, 7), (7, 7), (699, 0)):
        sample = source[index]
        assert sample.key == KEYS[stands] and sample.target is not None
        assert torch.equal(sample.target, torch.from_numpy(value(stands)))
    batch = collate_images(source.__getitems__([7, 5, 699]))
    assert batch.key == (KEYS[7], KEYS[7], KEYS[0]) and batch.target is not None
    assert np.array_equal(batch.target.numpy(), np.stack([value(7), value(7), value(0)]))


def test_a_source_with_targets_is_the_source_otherwise() -> None:
    plain = ArrayImages(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], ["a", "b"], classes=["x", "y"], templates=["{}"])
    plain.shuffle = False
    source = TargetedImages(plain)
    assert (source.name, source.classes, source.templates, source.shuffle) == ("array", ["x", "y"], ["{}"], False)
    assert source.bad() == {} and source.fetcher() is None and list(source.keys) == ["a", "b"]


def test_a_batch_carries_targets_where_it_goes() -> None:
    samples = [ImageSample(torch.zeros(3, 2, 2), 0, k, target=torch.full((4,), float(i))) for i, k in enumerate("abc")]
    batch = collate_images(samples)
    assert batch.target is not None and batch.target[:, 0].tolist() == [0.0, 1.0, 2.0]
    moved = batch.to("cpu", dtype=torch.float64).select([2, 0])
    assert moved.target is not None and moved.x.dtype == torch.float64
    assert moved.target.dtype == torch.float32 and moved.target[:, 0].tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match="sample 'd' has no target while others of its batch have some"):
        collate_images([*samples, ImageSample(torch.zeros(3, 2, 2), 0, "d")])
