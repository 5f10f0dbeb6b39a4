"""Revisited Oxford and Paris, in miniature: boxes, parts, and answers that are read and never run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.layouts.revisited import QUERIES, open_revisited
from data.transforms import DecodeError

COUNT = 40


def said(**changes: Any) -> dict[str, Any]:
    answers = [
        {"easy": [i % 10], "hard": [10 + i % 10, 20], "junk": [30 + i % 5], "bbx": [8.0, 4.0, 24.0, 20.0]}
        for i in range(QUERIES)
    ]
    answers[3]["hard"] = []
    whole = {"imlist": [f"all_{i}" for i in range(COUNT)], "qimlist": [f"query_{i}" for i in range(QUERIES)]}
    return {**whole, "gnd": answers, **changes}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "jpg").mkdir()
    for i in range(COUNT):
        Image.new("RGB", (32, 24), (i, i, i)).save(tmp_path / "jpg" / f"all_{i}.jpg")
    for i in range(QUERIES):
        picture = Image.new("RGB", (32, 24))
        picture.paste((255, 255, 255), (8, 4, 24, 20))
        picture.save(tmp_path / "jpg" / f"query_{i}.jpg", quality=95)
    return tmp_path


@pytest.mark.parametrize("form", ["json", "pickle", "numpy"])
def test_queries_are_cut_out_and_answers_are_those_of_the_file(root: Path, form: str) -> None:
    content = said()
    if form == "json":
        (root / "gnd_small.json").write_text(json.dumps(content))
    else:
        if form == "numpy":
            for answer in content["gnd"]:
                answer |= {part: np.array(answer[part], dtype=np.int64) for part in ("easy", "hard", "junk")}
                answer["bbx"] = [np.float64(value) for value in answer["bbx"]]
        (root / "gnd_small.pkl").write_bytes(pickle.dumps(content, protocol=2))
    found = open_revisited(str(root), 16)
    assert (len(found.queries), len(found.gallery)) == (QUERIES, COUNT)
    assert found.queries[0].x.min() > 0.8  # nothing beside the box is left
    relevant, ignored = found.relevance.masks(["query_12"], "medium")
    assert (relevant[0].nonzero().flatten().tolist(), ignored[0].nonzero().flatten().tolist()) == ([2, 12, 20], [32])
    relevant, ignored = found.relevance.masks(["query_12"], "hard")
    assert (relevant[0].nonzero().flatten().tolist(), ignored[0].nonzero().flatten().tolist()) == ([12, 20], [2, 32])
    assert found.relevance.answerable(found.queries.keys, "hard") == [i for i in range(QUERIES) if i != 3]


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("planted"),)


def test_a_pickle_that_wants_to_run_something_is_refused_and_runs_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    (root / "gnd_small.pkl").write_bytes(pickle.dumps(said(imlist=[Planted()]), protocol=2))
    with pytest.raises(ValueError, match="was refused"):
        open_revisited(str(root), 16)
    assert not (root / "planted").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"qimlist": ["query_0"]}, "has 1 queries and 70 answers, not 70 of both"),
        ({"imlist": "all"}, "has no list imlist"),
        ({"imlist": ["../outside"] * COUNT}, "lies outside"),
        ({"imlist": [f"gone_{i}" for i in range(COUNT)]}, "lacks 40 of 40 pictures, such as gone_0.jpg"),
        ({"imlist": ["all_0"]}, "of 1"),
        ({"gnd": [{"bbx": [1, 2, 3]}] * QUERIES}, "bbx is no box of four numbers"),
        ({"gnd": [{"bbx": [9, 2, 3, 4]}] * QUERIES}, "is no box of left, upper, right, lower"),
        ({"gnd": [{"easy": ["x"], "bbx": [1, 2, 3, 4]}] * QUERIES}, "easy is no list of places"),
        ({"gnd": [{"easy": [[1], [2]], "bbx": [1, 2, 3, 4]}] * QUERIES}, "easy is no list of places"),
        ({"gnd": [{"easy": [2**70], "bbx": [1, 2, 3, 4]}] * QUERIES}, "easy is no list of places"),
        ({"gnd": [[1]] * QUERIES}, "the answers of ROxford or RParis are tables"),
    ],
)
def test_answers_that_cannot_be_are_refused_in_one_line(root: Path, changes: dict[str, Any], told: str) -> None:
    (root / "gnd_small.json").write_text(json.dumps(said(**changes)))
    with pytest.raises(ValueError, match=told) as error:
        open_revisited(str(root), 16)
    assert len(str(error.value).splitlines()) == 1


def test_answers_nested_without_end_fill_no_memory(root: Path) -> None:
    nested: Any = [1]
    for _ in range(40):
        nested = [nested, nested]
    answers = [{"easy": nested, "bbx": [1.0, 2.0, 3.0, 4.0]}] * QUERIES
    (root / "gnd_small.pkl").write_bytes(pickle.dumps(said(gnd=answers), protocol=2))
    with pytest.raises(ValueError, match="easy is no list of places"):
        open_revisited(str(root), 16)


@pytest.mark.parametrize("far", [60_000.0, 1e300, float("inf")])
def test_a_box_far_larger_than_its_picture_is_not_cut_out(far: float, root: Path) -> None:
    (root / "gnd_small.json").write_text(json.dumps(said(gnd=[{"bbx": [0.0, 0.0, far, far]}] * QUERIES)))
    with pytest.raises(DecodeError, match="too many pixels"):
        open_revisited(str(root), 16).queries[0]


def test_a_folder_without_answers_says_which_file_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no gnd_"):
        open_revisited(str(tmp_path), 16)
