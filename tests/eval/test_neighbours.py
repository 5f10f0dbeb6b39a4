"""Classes by examples as a task: votes, rates of misses and false alarms, and pictures that are not shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs.files import ConfigError
from eval.evaluate import write_evaluation
from eval.examples import blurred
from eval.harness import Evaluation, evaluate
from eval.outcomes import Cell
from eval.plan import Plan
from eval.report import build_report
from eval.rows import Subject
from eval.tasks.neighbours import NeighboursQuestion, NeighboursTask
from modules.encoders.clip import CLIP
from modules.encoders.tiny import load_tiny
from modules.perceptual.metric import unit
from tests.eval.class_folders import folders

Planned = Callable[..., Plan]
TASK = "tasks={nsfw: {shards: %s, limit: 8, transfer_from: %s, neighbours: {examples: %s, k: 3, positive: one, %s}}}"
SMALL = ("attacks={apgd: {loss: margin, steps: 4}}", "threat.eps=${px:8}", "defenses={none: {}}", "examples=6")


def judged(clip: CLIP, plan: Plan) -> Evaluation:
    return evaluate(clip.image, plan, Subject("CLIP"), quiet=True)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("pool"), {"train": 5, "test": 4}, classes=2)


@pytest.mark.parametrize("head", ["votes: majority", "votes: distance", "head: linear_probe"])
def test_rates_are_those_of_single_images_and_an_attack_raises_both(
    clip: CLIP, planned: Planned, pool: Path, head: str
) -> None:
    found = judged(clip, planned(TASK % (pool, "null", pool, head), *SMALL))
    outcomes = found.outcomes["nsfw"]
    for cell, measured in outcomes.measures.items():
        for key, right, miss, alarm in zip(
            outcomes.keys, outcomes.correct[cell], measured["false_negative"], measured["false_positive"], strict=True
        ):
            assert (miss, alarm) == ((float(not right), None) if key.startswith("one/") else (None, float(not right)))
    rows = {(r.attack, r.metric): r for r in found.results}
    for metric in ("false_negative", "false_positive"):
        assert rows["worst", metric].n == 4
        assert rows["worst", metric].value > rows["none", metric].value
        assert rows["worst", metric].low <= rows["worst", metric].value <= rows["worst", metric].high


def test_the_vote_is_that_of_the_nearest_examples(clip: CLIP, planned: Planned, pool: Path) -> None:
    (task,) = planned(TASK % (pool, "null", pool, ""), *SMALL).tasks
    assert isinstance(task, NeighboursTask)
    examples = [task.examples[i] for i in range(10)]
    batch = next(task.batches(8))
    with torch.no_grad():
        near = unit(clip.image(batch.x)) @ unit(clip.image(torch.stack([one.x for one in examples]))).T
        votes = task.question(clip.image).classifier(clip.image, batch)(batch.x).argmax(dim=1)
    for row in range(8):
        labels = [examples[i].y for i in near[row].argsort(descending=True)[:3].tolist()]
        assert int(votes[row]) == int(sum(labels) < 2)  # answer 1 is "one", the examples' class 0


def test_an_attack_on_the_original_encoder_is_told_in_a_column_of_its_own(planned: Planned, pool: Path) -> None:
    tuned = load_tiny()
    with torch.no_grad():
        for parameter in tuned.image.parameters():
            parameter.mul_(1 + 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    few = ("tasks.nsfw.limit=4", "attacks.apgd.steps=2", "views=[transfer, adaptive]")
    plan = planned(TASK % (pool, "base", pool, ""), *SMALL, "defenses={none: {}, clipure_cos: {}}", *few)
    found = evaluate(tuned.image, plan, Subject("tuned"), quiet=True)
    views = {(row.defense, row.view) for row in found.results}
    assert {("none", "original"), ("none", "adaptive"), ("clipure_cos", "original")} <= views
    (shown,) = (example for example in found.examples if example.defense == "none")
    assert plan.original is not None and shown.view in ("original", "adaptive")
    alone = evaluate(load_tiny().image, replace(plan, original=load_tiny().image.freeze()), Subject("same"), quiet=True)
    draws = alone.outcomes["nsfw"].draws  # who was never tuned falls to attacks on the original as to its own
    eps = plan.threat.eps
    assert draws[Cell("none", "apgd", "original", eps)] == draws[Cell("none", "apgd", "adaptive", eps)]


def test_no_picture_of_the_positive_class_is_written_plainly(
    clip: CLIP, planned: Planned, pool: Path, tmp_path: Path
) -> None:
    plan = planned(TASK % (pool, "null", pool, ""), *SMALL, "batch_size=8", "examples=8")
    found = judged(clip, plan)
    write_evaluation(tmp_path, found)
    batch = next(plan.tasks[0].batches(8))
    labels = json.loads((tmp_path / "examples.json").read_text())[0]["label"]
    for name, pictures in load_file(tmp_path / "examples.safetensors").items():
        for label, picture, raw in zip(labels, pictures, batch.x, strict=True):
            if label == 1:  # what is to be detected comes last
                patches = blurred(raw[None], [True])[0]
                assert (picture - patches).abs().max() < 0.15 and (picture - raw).abs().max() > 0.2
            elif name.endswith("clean"):
                assert torch.equal(picture, raw)
    plain = judged(clip, planned(TASK % (pool, "null", pool, "blur: false"), *SMALL, "examples=8"))
    assert torch.equal(plain.examples[0].tensors["clean"], batch.x)  # as a recipe may ask
    (tmp_path / "env.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("")
    assert "Pictures" in build_report([tmp_path], tmp_path / "report").read_text()


def test_examples_that_teach_nothing_are_refused_in_one_line(planned: Planned, pool: Path, tmp_path: Path) -> None:
    alone = folders(tmp_path / "alone", {"train": 2, "test": 1}, classes=1)
    for said, told in (
        (TASK.replace("positive: one, ", "") % (alone, "null", alone, ""), "examples of 1 class"),
        (TASK.replace("k: 3", "k: 11") % (pool, "null", pool, ""), "11 neighbours cannot be found among 10 examples"),
        (TASK.replace("positive: one", "positive: unsafe") % (pool, "null", pool, ""), "'unsafe' is none of the"),
        (TASK % (pool, "null", tmp_path, ""), "holds no class folders"),
        (TASK.replace("k: 3", "k: 0") % (pool, "null", pool, ""), r"neighbours\.k is 0"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            planned(said, *SMALL)
        assert len(str(error.value).splitlines()) == 1


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("three"), {"train": 5, "tune": 6, "test": 3}, classes=3)


def test_a_class_is_detected_among_all_others_together(clip: CLIP, planned: Planned, three: Path) -> None:
    (task,) = planned(TASK % (three, "null", three, "votes: distance"), *SMALL, "tasks.nsfw.limit=null").tasks
    assert isinstance(task, NeighboursTask) and task.classes == ["any other class", "one"]
    assert task.origin["examples"] == {"any other class": 10, "one": 5}
    batch = next(task.batches(9))
    assert batch.y.tolist() == [int(key.startswith("one/")) for key in batch.key]
    logits = task.question(clip.image).classifier(clip.image, batch)(batch.x)
    assert logits.shape == (9, 2)


@pytest.mark.parametrize("head", ["head: knn", "head: linear_probe"])
def test_the_threshold_lets_so_many_other_tuning_pictures_beyond_and_stays_under_attack(
    clip: CLIP, planned: Planned, three: Path, head: str
) -> None:
    said = TASK % (three, "null", three, f"{head}, false_positive_rate: 0.2")
    plan = planned(said, *SMALL, "tasks.nsfw.limit=null", "examples=0")
    (task,) = plan.tasks
    assert isinstance(task, NeighboursTask) and task.tuned is not None
    assert not set(task.tuned.keys) & set(task.source.keys) and len(task.tuned) == 12
    question = task.question(clip.image)
    assert isinstance(question, NeighboursQuestion)
    pictures = torch.stack([task.tuned[i].x for i in range(12)])
    with torch.no_grad():
        margins = question.smooth(clip.image(pictures)).diff(dim=1).flatten()
        assert int((margins > question.threshold).sum()) == 1  # of 13 exchangeable ones 2 may: 1 of these, and the next
        batch = next(task.batches(9))
        flagged = question.smooth(clip.image(batch.x)).diff(dim=1).flatten() > question.threshold
    found = judged(clip, plan)
    told = found.outcomes["nsfw"].measures[Cell("none")]
    seen = [miss == 0.0 if miss is not None else bool(alarm) for miss, alarm in zip(*told.values(), strict=True)]
    assert seen == flagged.tolist()
    assert all("threshold at 20 % false positives" in row.qualifier for row in found.results)


def test_a_threshold_that_cannot_be_set_is_told_in_one_line(planned: Planned, three: Path, pool: Path) -> None:
    for said, told in (
        (TASK % (three, "null", three, "false_positive_rate: 0.01"), "needs 99 tuning pictures or more"),
        (TASK % (three, "null", three, "false_positive_rate: 2"), r"neighbours\.false_positive_rate is 2"),
        (TASK.replace("positive: one, %s", "false_positive_rate: 0.2") % (three, "null", three), "of which class"),
        (TASK % (pool, "null", pool, "false_positive_rate: 0.2"), "no split 'tune' in"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            planned(said, *SMALL)
        assert len(str(error.value).splitlines()) == 1
