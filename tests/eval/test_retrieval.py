"""Retrieval as a task: its numbers are those of slow rankings, and its galleries are what they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs.files import ConfigError
from data.sample import digits
from eval.harness import Evaluation, evaluate
from eval.plan import Plan
from eval.rows import Subject
from eval.tasks.poisoning import PoisoningTask
from eval.tasks.retrieval import RetrievalTask
from modules.encoders.clip import CLIP
from modules.perceptual import PerceptualMetric
from tests.eval.class_folders import folders

Planned = Callable[..., Plan]
TASK = (
    "tasks={look: {shards: %s, split: test, limit: %d, retrieval: {gallery: %s, gallery_split: train, k: [1, 3], %s}}}"
)
SMALL = ("attacks={apgd: {loss: margin, steps: 4}}", "threat.eps=${px:8}", "defenses={none: {}}")


def judged(clip: CLIP, plan: Plan) -> Evaluation:
    return evaluate(clip.image, plan, Subject("CLIP"), quiet=True)


def values(found: Evaluation, defense: str = "none") -> dict[tuple[str, str, str], float]:
    return {(r.attack, r.view, r.metric): r.value for r in found.results if r.defense == defense}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits in class folders: five of each of four classes in ``train``, two in ``test``."""
    return folders(tmp_path_factory.mktemp("pool"), {"train": 5, "test": 2}, classes=4)


def test_clean_numbers_are_those_of_a_slow_ranking(clip: CLIP, planned: Planned, pool: Path) -> None:
    plan = planned(TASK % (pool, 8, pool, ""), *SMALL)
    (task,) = plan.tasks
    assert isinstance(task, RetrievalTask)
    metric, precisions, firsts = PerceptualMetric(clip.image), [], []
    gallery = [task.gallery[i] for i in range(20)]
    for i in range(8):
        query = task.source[i]
        with torch.no_grad():
            far = metric.pairwise(query.x[None], torch.stack([item.x for item in gallery]))[0]
        hits = [gallery[j].y == query.y for j in far.argsort(stable=True).tolist()]
        firsts.append(hits[0])
        area, seen = 0.0, 0
        for place, hit in enumerate(hits):
            if hit:
                area += ((seen / place if place else 1.0) + (seen + 1) / (place + 1)) / 2
                seen += 1
        precisions.append(area / seen)
    found = values(judged(clip, plan))
    assert found["none", "none", "average_precision"] == pytest.approx(sum(precisions) / 8, abs=1e-6)
    assert found["none", "none", "recall_at_1"] == found["none", "none", "clean_accuracy"] == sum(firsts) / 8
    assert found["worst", "worst", "average_precision"] < found["none", "none", "average_precision"]
    assert found["worst", "worst", "recall_at_1"] == found["worst", "worst", "robust_accuracy"] < 1


def test_a_query_left_out_of_its_own_set_never_finds_itself(clip: CLIP, planned: Planned, pool: Path) -> None:
    said = TASK.replace("gallery: %s, gallery_split: train, ", "") % (pool, 8, "")
    plan = planned(said, *SMALL)
    (task,) = plan.tasks
    assert isinstance(task, RetrievalTask) and len(task.gallery) == 8
    batch = next(task.batches(8))
    ranking = task.question(clip.image).ranking(clip.image, batch, batch.x)
    assert ranking is not None
    for i in range(8):
        assert not any(torch.equal(picture, batch.x[i]) for picture in ranking.x[i])
    relevant, ignored = task.relevance.masks(batch.key, "medium")
    assert (
        ignored.sum() == 8 and torch.equal(ignored, torch.eye(8, dtype=torch.bool)) and not (relevant & ignored).any()
    )


@pytest.mark.parametrize("attack", ["untargeted", "gallery, poisoned: 2, first: 3"])
def test_no_number_depends_on_the_batch_size(clip: CLIP, planned: Planned, pool: Path, attack: str) -> None:
    said = (TASK % (pool, 6, pool, f"attack: {attack}"), *SMALL, "defenses={none: {}, noisy: {name: random_noise}}")
    whole, parts = (judged(clip, planned(*said, "views=[adaptive]", f"batch_size={size}")) for size in (6, 4))
    for row, other in zip(whole.results, parts.results, strict=True):
        assert row.metric == other.metric and row.value == pytest.approx(other.value, abs=1e-5)


def test_the_attackers_item_depends_on_seed_and_query_only_and_is_never_relevant(planned: Planned, pool: Path) -> None:
    chosen = {}
    for name, seed in (("all", 0), ("few", 0), ("other", 1)):
        plan = planned(TASK % (pool, 4 if name == "few" else 8, pool, f"attack: targeted, seed: {seed}"), *SMALL)
        (task,) = plan.tasks
        assert isinstance(task, RetrievalTask)
        chosen[name] = {key: task.chosen(key)[0] for key in task.source.keys}
        for key, place in chosen[name].items():
            assert place not in task.relevance.of(key, "")[0]
    assert chosen["few"].items() <= chosen["all"].items() and chosen["all"] != chosen["other"]


def test_a_target_that_comes_first_is_told_by_every_number(clip: CLIP, planned: Planned, pool: Path) -> None:
    found = values(judged(clip, planned(TASK % (pool, 8, pool, "attack: targeted"), *SMALL, "threat.eps=${px:40}")))
    assert found["worst", "worst", "target_at_1"] == pytest.approx(1 - found["worst", "worst", "robust_accuracy"])
    assert found["none", "none", "target_at_1"] < found["worst", "worst", "target_at_1"]


def test_poisoned_pictures_are_in_exactly_where_the_new_gallery_says_so(
    clip: CLIP, planned: Planned, pool: Path
) -> None:
    plan = planned(TASK % (pool, 4, pool, "attack: gallery, poisoned: 3, first: 4"), *SMALL, "threat.eps=${px:24}")
    (task,) = plan.tasks
    assert isinstance(task, PoisoningTask) and task.images == 3
    batch = next(task.batches(4))
    assert batch.x.shape == (4, 9, 32, 32)
    question = task.question(clip.image)
    attack = plan.at(plan.threat.eps, "apgd", task)
    classifier = question.ascended(clip.image, batch)
    assert classifier is not None
    x_adv = attack(classifier, batch.x, batch.y)
    assert batch.beside is not None
    with torch.no_grad():
        queries, told = clip.image(batch.beside[:, 0]), question.measures(clip.image, batch, x_adv)
        decided = question.classifier(clip.image, batch)(x_adv).argmax(dim=1)
        for row, key in enumerate(batch.key):
            pictures = torch.stack([task.gallery[i].x for i in range(20)])
            places = task.chosen(key, 3)
            pictures[places] = x_adv[row].unflatten(0, (3, 3))
            near = torch.cosine_similarity(clip.image(pictures), queries[row : row + 1])
            first = near.argsort(descending=True, stable=True)[:4].tolist()
            inside = sum(place in first for place in places)
            assert told["displaced"][row] == pytest.approx(inside / 4)
            assert told["entered"][row] == float(inside > 0) == float(decided[row])
    assert sum(filter(None, told["entered"])) > 0


def test_everything_is_labelled_as_a_protocol_of_ours(clip: CLIP, planned: Planned, pool: Path) -> None:
    found = judged(clip, planned(TASK % (pool, 4, pool, ""), *SMALL, "examples=2"))
    assert {row.protocol for row in found.results} == {"robustclip-default"}
    assert all("protocol robustclip-default" in row.qualifier and row.task == "retrieval" for row in found.results)
    (example,) = found.examples
    assert example.marks is not None and example.tensors["after"].shape == (2, 5, 3, 32, 32)
    assert all(set(marks) <= {"relevant", "wrong"} for marks in example.marks["before"])


def test_what_cannot_be_searched_is_told_in_one_line(planned: Planned, pool: Path, tmp_path: Path) -> None:
    alone = folders(tmp_path / "alone", {"train": 3, "test": 2}, classes=1)
    strange = folders(tmp_path / "strange", {"train": 2, "test": 2}, classes=2)
    (strange / "test" / "nought").mkdir()
    Image.new("RGB", (32, 32)).save(strange / "test" / "nought" / "0.png")
    for said, told in (
        (TASK % (strange, 2, pool, ""), r"tasks\.look: class 'nought' of 'strange' is not in the gallery"),
        (TASK % (tmp_path / "no", 2, pool, ""), r"tasks\.look: "),
        (TASK % (alone, 2, alone, "blur: true"), "none of the 2 queries has both .* and of two classes or more"),
        (TASK.replace("[1, 3]", "[21]") % (pool, 2, pool, ""), "recall at 21 needs 21 pictures"),
        (TASK % (pool, 2, pool, "attack: gallery, poisoned: 16"), "too small to poison 16"),
        (TASK % (pool, 2, pool, "first: 0"), r"retrieval\.first is 0"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            planned(said, *SMALL)
        assert len(str(error.value).splitlines()) == 1


def test_a_task_asks_one_question(planned: Planned) -> None:
    with pytest.raises(ConfigError, match=r"tasks\.d asks 2 questions \(choice, retrieval\)"):
        planned("tasks={d: {shards: digits, choice: {}, retrieval: {}}}")


def test_the_embedded_digits_are_a_gallery(planned: Planned) -> None:
    (task,) = planned("tasks={d: {shards: digits, limit: 5, retrieval: {gallery: digits}}}").tasks
    assert isinstance(task, RetrievalTask)
    assert len(task.gallery) == len(digits("train")) and task.origin["gallery"] == 1197


def test_pictures_of_every_mode_are_looked_at_as_rgb_and_a_broken_one_names_itself(
    clip: CLIP, planned: Planned, pool: Path, tmp_path: Path
) -> None:
    mixed = folders(tmp_path / "mixed", {"train": 4, "test": 2}, classes=2)
    modes = ("L", "LA", "RGBA", "P", "1", "I;16", "CMYK", "RGB")
    for path, mode in zip(sorted(mixed.glob("train/*/*.png")), modes, strict=True):
        picture = Image.open(path).convert("RGB")
        deep = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 256) if mode == "I;16" else None
        target = path.with_suffix(".jpg") if mode == "CMYK" else path
        path.unlink()
        (deep or picture.convert(mode)).save(target)
    plan = planned(TASK % (mixed, 4, mixed, ""), *SMALL)
    (task,) = plan.tasks
    assert isinstance(task, RetrievalTask)
    for i in range(8):
        x = task.gallery[i].x
        assert x.shape == (3, 32, 32) and 0 <= x.min() < x.max() <= 1
    broken = sorted(mixed.glob("train/*/*.png"))[0]
    broken.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"^not an image .*{broken.name} of 'mixed'"):
        judged(clip, planned(TASK % (mixed, 4, mixed, ""), *SMALL))
