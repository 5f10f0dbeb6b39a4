from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from configs.files import ConfigError
from eval.harness import evaluate
from eval.plan import Plan
from eval.rows import Subject
from eval.tasks.choice import CHOSEN, ChoiceTask
from modules.encoders.clip import CLIP
from modules.perceptual import PerceptualMetric

TRIPLETS = "tasks={triplets: {shards: digit-triplets, limit: 24, choice: {target: %s}}}"
SMALL = ("attacks={apgd: {loss: margin, steps: 3}}", "threat.eps=${px:4}", "examples=2")
Planned = Callable[..., Plan]


def values(clip: CLIP, plan: Plan) -> dict[tuple[str, str, str], float]:
    found = evaluate(clip.image, plan, Subject("CLIP"), quiet=True)
    return {(row.defense, row.attack, row.metric): row.value for row in found.results if row.view != "transfer"}


def test_the_clean_accuracy_is_that_of_the_metric(clip: CLIP, planned: Planned) -> None:
    plan = planned(TRIPLETS % "reference", *SMALL, "defenses={none: {}}")
    (task,) = plan.tasks
    metric, hits = PerceptualMetric(clip.image), []
    for batch in task.batches(24):
        assert batch.beside is not None and torch.equal(batch.x, batch.beside[:, 0])
        with torch.no_grad():
            left, right = metric(batch.x, batch.beside[:, 1]), metric(batch.x, batch.beside[:, 2])
        hits += ((right < left).long() == batch.y).tolist()
    assert values(clip, plan)["none", "none", "clean_accuracy"] == sum(hits) / len(hits)


def test_who_may_change_all_three_pictures_leaves_no_more_standing(clip: CLIP, planned: Planned) -> None:
    standing = {}
    for target in ("reference", "all"):
        plan = planned(TRIPLETS % target, *SMALL, "defenses={none: {}, clipure_cos: {}}", "views=[adaptive]")
        standing[target] = values(clip, plan)
    for defense in ("none", "clipure_cos"):
        key = defense, "worst", "robust_accuracy"
        assert standing["all"][key] <= standing["reference"][key] < standing["all"][defense, "none", "clean_accuracy"]


def test_no_number_depends_on_the_batch_size(clip: CLIP, planned: Planned) -> None:
    said = (TRIPLETS % "alternatives", *SMALL, "defenses={none: {}, noisy: {name: random_noise}}", "views=[adaptive]")
    few = ("tasks.triplets.limit=9", "attacks.apgd.steps=2", "eot_draws=1", "examples=0")
    assert values(clip, planned(*said, *few, "batch_size=9")) == values(clip, planned(*said, *few, "batch_size=4"))


def test_with_judges_of_many_minds_the_soft_score_differs_as_documented(
    clip: CLIP, planned: Planned, tmp_path: Path
) -> None:
    for name, shade in (("a", 30), ("b", 40), ("c", 220)):
        picture = Image.new("RGB", (32, 32), (26, 26, 26))
        picture.paste((shade, shade, shade), (4, 4, 20, 28))
        picture.save(tmp_path / f"{name}.png")
    rows = ["reference,left,right,label,soft", "a.png,b.png,c.png,left,0.3", "a.png,c.png,b.png,right,0.6"]
    (tmp_path / "triplets.csv").write_text("\n".join(rows) + "\n")
    said = f"tasks={{own: {{shards: {tmp_path}, choice: {{}}}}}}"
    found = values(clip, planned(said, *SMALL, "defenses={none: {}}"))
    assert found["none", "none", "clean_accuracy"] == 1.0
    assert found["none", "none", "soft_accuracy"] == pytest.approx((0.7 + 0.6) / 2)


def test_both_tests_of_nights_stand_beside_their_mean_weighted_by_size(
    clip: CLIP, planned: Planned, tmp_path: Path
) -> None:
    for name, shade in (("a", 30), ("b", 40), ("c", 220)):
        picture = Image.new("RGB", (32, 32), (26, 26, 26))
        picture.paste((shade, shade, shade), (4, 4, 20, 28))
        picture.save(tmp_path / f"{name}.png")
    rows = ["id,votes,right_vote,ref_path,left_path,right_path,split,is_imagenet"]
    for n, (right, imagenet) in enumerate([(0, True), (0, False), (1, False), (1, False)]):  # left is right
        rows.append(f"{n},6,{right},a.png,b.png,c.png,test,{imagenet}")
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    found = values(clip, planned(f"tasks={{own: {{shards: {tmp_path}, choice: {{}}}}}}", *SMALL, "defenses={none: {}}"))
    clean = {metric: value for (_, attack, metric), value in found.items() if attack == "none"}
    assert clean["accuracy_test_imagenet"] == 1.0
    assert clean["accuracy_test_no_imagenet"] == pytest.approx(1 / 3)
    assert clean["clean_accuracy"] == pytest.approx((1 * 1.0 + 3 * 1 / 3) / 4)
    assert {("none", "worst", f"accuracy_test_{part}") for part in ("imagenet", "no_imagenet")} <= found.keys()


@pytest.mark.parametrize("target", ["reference", "all"])
def test_the_report_shows_left_and_right_in_the_order_that_the_encoder_finds(
    clip: CLIP, planned: Planned, target: str
) -> None:
    (task,) = planned(TRIPLETS % target, *SMALL, "defenses={none: {}}", "tasks.triplets.limit=6").tasks
    batch = next(task.batches(6))
    x = (batch.x + 0.1).clamp(0, 1)
    question = task.question(clip.image)
    ranking = question.ranking(clip.image, batch, x)
    assert ranking is not None and batch.beside is not None
    said = question.classifier(clip.image, batch)(x).argmax(dim=1).tolist()
    for i, (chosen, label) in enumerate(zip(said, batch.y.tolist(), strict=True)):
        sides = batch.beside[i, 1:] if target == "reference" else x[i].unflatten(0, (3, 3))[1:]
        assert torch.equal(ranking.x[i], sides[[chosen, 1 - chosen]])
        assert ranking.marks[i][int(chosen != label)] == CHOSEN


def test_gates_are_not_asked_about_several_pictures_at_once(clip: CLIP, planned: Planned) -> None:
    gated = ("defenses={none: {}, ttc: {steps: 1}}", "views=[adaptive, gate]")
    views = {}
    for target in ("reference", "all"):
        plan = planned(
            TRIPLETS % target, *SMALL, *gated, "tasks.triplets.limit=2", "attacks.apgd.steps=1", "examples=0"
        )
        assert isinstance(plan.tasks[0], ChoiceTask)
        found = evaluate(clip.image, plan, Subject("CLIP"), quiet=True)
        views[target] = {row.view for row in found.results if row.defense == "ttc"}
    assert "gate" in views["reference"] and "gate" not in views["all"]


def test_triplets_that_cannot_be_read_are_told_with_the_task(planned: Planned) -> None:
    with pytest.raises(ConfigError, match=r"tasks\.gone: no folder of triplets at 'nowhere'"):
        planned("tasks={gone: {shards: nowhere, choice: {}}}")


def test_the_odd_one_is_outside_the_most_similar_pair(clip: CLIP, planned: Planned) -> None:
    odd = "tasks={odd: {shards: digit-odd-ones, limit: 30, choice: {ask: odd_one_out, target: all}}}"
    plan = planned(odd, *SMALL, "defenses={none: {}}")
    (task,) = plan.tasks
    assert (task.name, task.classes, task.images) == ("odd-one-out", ["first", "second", "third"], 3)
    metric, hits = PerceptualMetric(clip.image), []
    for batch in task.batches(30):
        assert batch.beside is not None
        for triplet, label in zip(batch.beside, batch.y.tolist(), strict=True):
            with torch.no_grad():
                far = metric.pairwise(triplet, triplet)
            apart = {2: far[0, 1], 1: far[0, 2], 0: far[1, 2]}
            hits.append(min(apart, key=lambda place: float(apart[place])) == label)
    found = values(clip, plan)
    assert found["none", "none", "clean_accuracy"] == sum(hits) / 30 > 0.8
    assert found["none", "worst", "robust_accuracy"] < 0.5
