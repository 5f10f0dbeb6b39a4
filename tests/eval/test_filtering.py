"""Filtering as a task: a threshold from other pictures, evasion, and how well likeness tells the sides apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.files import ConfigError
from eval.harness import Evaluation, evaluate
from eval.plan import Plan
from eval.roc import separation
from eval.rows import Subject
from eval.tasks.filtering import FilteringQuestion, FilteringTask
from modules.encoders.clip import CLIP
from modules.perceptual.metric import unit
from tests.close import rounding
from tests.eval.class_folders import folders

Planned = Callable[..., Plan]
TASK = "tasks={pool: {shards: %s, filtering: {reference: %s, false_positive_rate: 0.1, %s}}}"
SMALL = ("attacks={apgd: {loss: margin, steps: 5}}", "threat.eps=${px:8}", "defenses={none: {}}", "batch_size=40")


def judged(clip: CLIP, plan: Plan) -> Evaluation:
    return evaluate(clip.image, plan, Subject("CLIP"), quiet=True)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("pool"), {"train": 4, "tune": 5, "test": 3}, classes=4)


def test_the_threshold_is_of_wanted_tuning_pictures_and_of_no_judged_one(
    clip: CLIP, planned: Planned, pool: Path
) -> None:
    (task,) = planned(TASK % (pool, pool, "positive: three"), *SMALL).tasks
    assert isinstance(task, FilteringTask)
    question = task.question(clip.image)
    assert isinstance(question, FilteringQuestion)
    pictures = torch.stack([task.wanted[i].x for i in range(15)])
    reference = torch.stack([task.reference[i].x for i in range(4)])
    with torch.no_grad():
        near = (unit(clip.image(pictures)) @ unit(clip.image(reference)).T).amax(dim=1)
    assert question.threshold == pytest.approx(
        float(near.max()), abs=rounding()
    )  # of 15 none may lie beyond, to promise one in ten
    assert not {task.wanted[i].key for i in range(15)} & {task.source[i].key for i in range(len(task.source))}
    three = task.reference.classes.index("three")
    assert [task.reference[i].y for i in range(4)] == [three] * 4 and three not in [task.wanted[i].y for i in range(15)]


def test_evaded_and_kept_out_in_vain_are_told_for_clean_and_attacked_pictures(
    clip: CLIP, planned: Planned, pool: Path
) -> None:
    found = judged(clip, planned(TASK % (pool, pool, "positive: three"), *SMALL))
    outcomes, rows = found.outcomes["pool"], {(r.attack, r.metric): r for r in found.results}
    for cell, measured in outcomes.measures.items():
        for right, evaded, alarm in zip(
            outcomes.correct[cell], measured["evaded"], measured["false_alarm"], strict=True
        ):
            assert (evaded is None) != (alarm is None) and right == (not (evaded or alarm))
    assert rows["worst", "evaded"].value > rows["none", "evaded"].value and rows["worst", "evaded"].n == 3
    assert rows["worst", "filter_auc"].value < rows["none", "filter_auc"].value
    assert rows["worst", "similarity_wanted"].value >= rows["none", "similarity_wanted"].value


def test_near_copies_of_the_reference_are_to_be_kept_out_where_no_class_is(planned: Planned, pool: Path) -> None:
    (task,) = planned(TASK % (pool, pool, ""), *SMALL).tasks
    assert isinstance(task, FilteringTask)
    labels = [task.source[i].y for i in range(len(task.source))]
    assert (labels.count(0), labels.count(1)) == (12, 16)
    for i, label in enumerate(labels):
        if label == 1:
            original = task.reference[i - 12].x
            assert task.source[i].key == f"copy of {task.reference.keys[i - 12]}"
            assert 0 < (task.source[i].x - original).abs().mean() < 0.2
    assert task.hidden(next(task.batches(28))) == [bool(label) for label in labels]


def test_no_number_depends_on_the_batch_size(clip: CLIP, planned: Planned, pool: Path) -> None:
    said = (TASK % (pool, pool, "positive: three"), *SMALL)
    whole, parts = (judged(clip, planned(*said, f"batch_size={size}")) for size in (12, 5))
    for row, other in zip(whole.results, parts.results, strict=True):
        assert row.metric == other.metric and row.value == pytest.approx(other.value, abs=1e-5)


def test_the_area_is_the_share_of_pairs_in_order_and_its_interval_holds_it() -> None:
    generator = np.random.default_rng(0)
    areas, held = [], 0
    for _ in range(60):
        low, high = generator.normal(0, 1, 40), generator.normal(1, 1, 30)
        found = separation(low.tolist(), high.tolist())
        areas.append(found.value)
        assert found.value == pytest.approx((high[:, None] > low[None]).mean())
        held += found.low <= 0.7602 <= found.high  # of normal scores one standard deviation apart
    assert held >= 53 and np.mean(areas) == pytest.approx(0.7602, abs=0.03)


def test_what_cannot_be_filtered_by_is_told_in_one_line(planned: Planned, pool: Path) -> None:
    for said, told in (
        (TASK.replace("0.1", "0.01") % (pool, pool, ""), "needs 99 tuning pictures or more, and 'pool.*' has 20"),
        (TASK.replace("0.1", "1.5") % (pool, pool, ""), r"false_positive_rate is 1\.5"),
        (TASK % (pool, pool, "positive: nine"), "has no class 'nine'; it has one, three, two, zero"),
        (TASK % (f"{pool}, tune_split: test", pool, ""), "tune_split is test, which is judged"),
        (TASK % (f"{pool}, tune_split: other", pool, ""), "no split 'other' in .*; it holds: test, train, tune"),
        (TASK % (f"{pool}/test", f"{pool}/train", ""), "the threshold needs other pictures"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            planned(said, *SMALL)
        assert len(str(error.value).splitlines()) == 1
