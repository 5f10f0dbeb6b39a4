from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.batches import collate_images
from data.framing import Framing
from data.layouts.triplet_files import open_triplets
from data.transforms import DecodeError
from data.triplets import TripletImages

COLUMNS = (
    "id",
    "left_vote",
    "right_vote",
    "votes",
    "ref_path",
    "left_path",
    "right_path",
    "prompt",
    "split",
    "is_imagenet",
)


def picture(path: Path, shade: int, size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    rows = [
        ("train", False, 1, 6),
        ("test", True, 0, 6),
        ("test", False, 1, 9),
        ("test", False, 1, 5),
        ("val", True, 0, 6),
    ]
    with (tmp_path / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for n, (split, imagenet, right, votes) in enumerate(rows):
            names = [f"ref/{n:03d}.png", f"distort/{n:03d}_0.png", f"distort/{n:03d}_1.png"]
            for shade, name in zip((n, n + 50, n + 100), names, strict=True):
                picture(tmp_path / name, shade)
            writer.writerow((n, 1 - right, right, votes, *names, "a thing", split, imagenet))
    return tmp_path


@pytest.fixture
def bapps(tmp_path: Path) -> Path:
    for kind, fractions in (("cnn", [0.0, 0.5]), ("traditional", [0.8])):
        for n, fraction in enumerate(fractions):
            for part in ("ref", "p0", "p1"):
                picture(tmp_path / "val" / kind / part / f"{n:06d}.png", 10 * n, (64, 64))
            (tmp_path / "val" / kind / "judge").mkdir(exist_ok=True)
            np.save(tmp_path / "val" / kind / "judge" / f"{n:06d}.npy", np.array([fraction], dtype=np.float32))
    return tmp_path


def test_nights_keeps_what_six_agree_on_and_joins_its_two_tests(nights: Path) -> None:
    both = open_triplets(str(nights), "test")
    assert list(both.keys) == ["1", "2"] and list(both.labels) == [0, 1]
    assert list(both.groups) == ["test_imagenet", "test_no_imagenet"]
    assert list(open_triplets(str(nights), "test_no_imagenet").keys) == ["2"]
    assert list(open_triplets(str(nights), "train").labels) == [1]
    sample = TripletImages(both, Framing(16), name="nights")[1]
    shades = [round(float(x.mean()) * 255) for x in (sample.x, *(sample.beside if sample.beside is not None else ()))]
    assert shades == [2, 52, 102]


def test_bapps_keeps_the_judges_fraction_and_a_half_is_left(bapps: Path) -> None:
    found = open_triplets(str(bapps), "val")
    assert list(found.keys) == ["cnn/000000", "cnn/000001", "traditional/000000"]
    assert list(found.labels) == [0, 0, 1]
    assert list(found.soft) == pytest.approx([0.0, 0.5, 0.8])
    assert TripletImages(found, Framing(32), name="bapps").groups()["traditional/000000"] == "traditional"


def test_a_table_of_ones_own_is_read(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name, 7)
    (tmp_path / "triplets.csv").write_text("reference,left,right,label\na.png,b.png,c.png,right\n")
    assert list(open_triplets(str(tmp_path), "test").labels) == [1]
    (tmp_path / "triplets.csv").write_text("reference,left,right,label\na.png,b.png,c.png,both\n")
    with pytest.raises(ValueError, match="line 2: label 'both' is not left or right"):
        open_triplets(str(tmp_path), "test")
    (tmp_path / "triplets.csv").write_text("reference,left,right,label\na.png,gone.png,c.png,left\n")
    with pytest.raises(ValueError, match=r"line 2 names gone\.png, which is not there"):
        open_triplets(str(tmp_path), "test")


def test_what_is_faulty_is_told_in_one_line(nights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no split 'holdout'; it has test_imagenet, test_no_imagenet, train, val"):
        open_triplets(str(nights), "holdout")
    with pytest.raises(ValueError, match="no folder of triplets"):
        open_triplets(str(tmp_path / "gone"), "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no data\.csv \(NIGHTS\)"):
        open_triplets(str(tmp_path / "empty"), "test")
    (nights / "distort" / "001_1.png").write_bytes(b"no picture")
    with pytest.raises(DecodeError, match="the right of 1 of 'nights'"):
        TripletImages(open_triplets(str(nights), "test"), Framing(16), name="nights")[0]
    (nights / "distort" / "001_1.png").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of 6 pictures, such as distort/001_1\.png"):
        open_triplets(str(nights), "test")
    assert len(open_triplets(str(nights), "val").keys) == 1  # what is not asked for may be missing


def test_a_missing_picture_or_judgement_of_bapps_is_named(bapps: Path) -> None:
    (bapps / "val/cnn/p1/000001.png").unlink()
    with pytest.raises(ValueError, match=r"lacks cnn/p1/000001\.png"):
        open_triplets(str(bapps), "val")
    np.save(bapps / "val/cnn/judge/000000.npy", np.array([1.5]))
    with pytest.raises(ValueError, match="one fraction"):
        open_triplets(str(bapps), "val")


def test_a_pickle_among_the_judgements_is_not_run(bapps: Path, tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "canary",))

    np.save(bapps / "val/cnn/judge/000000.npy", np.array([Canary()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="no array of one number"):
        open_triplets(str(bapps), "val")
    assert not (tmp_path / "canary").exists()


def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png", 1)
    inner = tmp_path / "inner"
    picture(inner / "a.png", 1)
    (inner / "triplets.csv").write_text("reference,left,right,label\na.png,../secret.png,a.png,left\n")
    found = open_triplets(str(inner), "test")
    with pytest.raises(ValueError, match="lies outside it"):
        TripletImages(found, Framing(16), name="inner")[0]


def test_the_embedded_triplets_have_answers_that_pixels_know_and_either_side(tmp_path: Path) -> None:
    found = open_triplets("digit-triplets", "test")
    assert 0.4 < np.mean(found.labels) < 0.6
    batch = collate_images([TripletImages(found, Framing(32), name="digits")[i] for i in range(60)])
    assert batch.beside is not None and batch.beside.shape == (60, 2, 3, 32, 32)
    far = (batch.beside - batch.x[:, None]).flatten(2).norm(dim=2)
    assert (far.argmin(dim=1) == batch.y).float().mean() > 0.9
    assert torch.equal(
        batch.x, collate_images([TripletImages(found, Framing(32), name="digits")[i] for i in range(60)]).x
    )
    assert set(open_triplets("digit-triplets", "train").keys).isdisjoint(found.keys)


def test_a_squashed_picture_shows_its_borders_and_a_cropped_one_does_not(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), (0, 0, 0))
    wide.paste((255, 255, 255), (0, 0, 8, 20))
    wide.save(tmp_path / "wide.png")
    (tmp_path / "triplets.csv").write_text("reference,left,right,label\nwide.png,wide.png,wide.png,left\n")
    found = open_triplets(str(tmp_path), "test")
    assert TripletImages(found, Framing(20, mode="squash"), name="x")[0].x[:, :, :3].mean() > 0.9
    assert TripletImages(found, Framing(20), name="x")[0].x[:, :, :3].mean() < 0.1
