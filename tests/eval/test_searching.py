"""Revisited Oxford and Paris as a task, in miniature: both average precisions are those of the protocol, slowly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from data.layouts.revisited import QUERIES
from data.sample import digits
from eval.harness import evaluate
from eval.plan import Plan
from eval.rows import Subject
from eval.tasks.retrieval import RetrievalTask
from modules.encoders.clip import CLIP

GALLERY = 30
TASK = "tasks={roxford5k: {shards: %s, retrieval: {relevance: revisited, k: [1, 5], difficulty: medium}}}"
SMALL = ("attacks={apgd: {loss: margin, steps: 2}}", "threat.eps=${px:8}", "defenses={none: {}}", "batch_size=70")


@pytest.fixture
def root(tmp_path: Path) -> tuple[Path, list[dict[str, list[int]]]]:
    """Digits as landmarks: of a query's class three are easy, the others hard, and one picture of the next is junk."""
    gallery, queries = digits("train"), digits("test")
    (tmp_path / "jpg").mkdir()
    answers = []
    for i in range(GALLERY):
        Image.fromarray(gallery.pixels[i]).save(tmp_path / "jpg" / f"all_{i}.jpg", quality=95)
    for i in range(QUERIES):
        Image.fromarray(queries.pixels[i]).save(tmp_path / "jpg" / f"query_{i}.jpg", quality=95)
        same = [j for j in range(GALLERY) if gallery.labels[j] == queries.labels[i]]
        other = [j for j in range(GALLERY) if gallery.labels[j] == (queries.labels[i] + 1) % 10]
        answers.append({"easy": same[:1], "hard": same[1:], "junk": other[:1], "bbx": [0.0, 0.0, 32.0, 32.0]})
    said = {"imlist": [f"all_{i}" for i in range(GALLERY)], "qimlist": [f"query_{i}" for i in range(QUERIES)]}
    (tmp_path / "gnd_roxford5k.json").write_text(json.dumps({**said, "gnd": answers}))
    return tmp_path, answers


def slow(order: Sequence[int], wanted: set[int], dropped: set[int]) -> float | None:
    """Trapezoids over a ranking from which what does not count is taken out; None without anything wanted."""
    kept = [item for item in order if item not in dropped]
    places = [place for place, item in enumerate(kept) if item in wanted]
    heights = [((n / p if p else 1.0) + (n + 1) / (p + 1)) / 2 for n, p in enumerate(places)]
    return sum(heights) / len(heights) if heights else None


def test_medium_and_hard_are_those_of_the_protocol_and_fall_under_attack(
    clip: CLIP, planned: Callable[..., Plan], root: tuple[Path, list[dict[str, list[int]]]]
) -> None:
    place, answers = root
    plan = planned(TASK % place, *SMALL)
    (task,) = plan.tasks
    assert isinstance(task, RetrievalTask)
    with torch.no_grad():
        gallery = torch.nn.functional.normalize(clip.image(torch.stack([task.gallery[i].x for i in range(GALLERY)])))
        queries = torch.nn.functional.normalize(clip.image(next(task.batches(QUERIES)).x))
    wanted = {"medium": [], "hard": []}
    for key, near in zip(task.source.keys, queries @ gallery.T, strict=True):
        parts = {name: set(value) for name, value in answers[int(key.split("_")[1])].items()}
        order = near.argsort(descending=True, stable=True).tolist()
        wanted["medium"].append(slow(order, parts["easy"] | parts["hard"], parts["junk"]))
        wanted["hard"].append(slow(order, parts["hard"], parts["easy"] | parts["junk"]))
    found = evaluate(clip.image, plan, Subject("CLIP"), quiet=True)
    rows = {(row.attack, row.metric): row for row in found.results}
    for difficulty, values in wanted.items():
        known = [value for value in values if value is not None]
        clean, worst = (rows[attack, f"average_precision_{difficulty}"] for attack in ("none", "worst"))
        assert (clean.n, clean.value) == (len(known), pytest.approx(sum(known) / len(known), abs=1e-6))
        assert worst.value < clean.value and clean.low < clean.value < clean.high
    assert rows["none", "average_precision_hard"].value < rows["none", "average_precision_medium"].value
    assert len(wanted["medium"]) + task.left_out == QUERIES
    assert {row.protocol for row in found.results} == {"robustclip-default"}
