"""Zero-shot classification: the right images, the right head, and a line where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from configs.files import ConfigError
from configs.schema import TaskConfig
from data.sample import CLASSES, TEMPLATES, digits
from data.source import ArrayImages
from eval.tasks.classification import ClassificationTask, classification_task
from modules.encoders.clip import CLIP
from modules.zero_shot import zero_shot_head
from tests.close import assert_close_to_rounding


def digits_task(clip: CLIP, **settings: object) -> ClassificationTask:
    return classification_task("ten", TaskConfig("digits", **settings), clip)  # pyright: ignore[reportArgumentType]


def with_images(monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    """Whatever a recipe names, these grey pictures are found."""
    pixels = np.full((4, 32, 32, 3), 128, np.uint8)
    labels = settings.pop("labels", [0, 1, 0, 1])
    source = ArrayImages(pixels, labels, list("abcd"), **settings)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr("eval.tasks.classification.open_images", lambda *_: source)


def test_each_image_comes_once_and_in_one_order(clip: CLIP) -> None:
    task = digits_task(clip)
    assert (task.dataset, task.name, len(task)) == ("ten", "classification", 300)
    keys = [[key for batch in task.batches(size) for key in batch.key] for size in (7, 300)]
    assert keys[0] == keys[1] == digits("test").keys
    assert max(len(batch) for batch in task.batches(7)) == 7


def test_a_limit_is_a_part_of_the_set_and_always_the_same(clip: CLIP) -> None:
    few, again = (list(digits_task(clip, limit=30).source.keys) for _ in range(2))
    assert few == again
    assert len(set(few)) == 30
    assert set(few) < set(digits("test").keys)
    assert few != digits("test").keys[:30]


def test_no_image_is_in_both_splits(clip: CLIP) -> None:
    task = digits_task(clip)
    assert task.tuning is not None
    assert not set(task.tuning.keys) & set(task.source.keys)


@pytest.mark.parametrize("split", ["test", "nonsense"])
def test_without_another_split_there_is_nothing_to_tune_on(split: str, clip: CLIP) -> None:
    assert digits_task(clip, tune_split=split).tuning is None


def test_the_head_is_the_text_towers(clip: CLIP) -> None:
    assert clip.text is not None
    task = digits_task(clip)
    head = zero_shot_head(clip.text, CLASSES, TEMPLATES, logit_scale=clip.logit_scale)
    assert torch.equal(task.head.weights, head.weights)
    (batch,) = task.batches(300)
    with torch.no_grad():
        logits = task.classifier(clip.image)(batch.x)
        z = torch.nn.functional.normalize(clip.image.encode_image(batch.x), dim=1)
    torch.testing.assert_close(logits, clip.logit_scale * z @ head.weights.T)


def test_templates_of_the_recipe_come_before_those_of_the_set(clip: CLIP) -> None:
    assert clip.text is not None
    task = digits_task(clip, templates=["one {}"])
    assert_close_to_rounding(task.blank, clip.text.encode_text(["one "])[0])
    assert not torch.allclose(task.blank, digits_task(clip).blank)


def test_a_set_without_classes_is_refused_with_the_remedy(clip: CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    with_images(monkeypatch, templates=["{}"])
    with pytest.raises(ConfigError, match=r"tasks\.odd: digits names no classes; put a classnames\.txt"):
        classification_task("odd", TaskConfig("digits"), clip)


def test_a_set_without_templates_is_refused_with_the_remedy(clip: CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    with_images(monkeypatch, classes=["x", "y"])
    with pytest.raises(ConfigError, match=r"say tasks\.odd\.templates=\['a photo of a \{\}\.'\]"):
        classification_task("odd", TaskConfig("digits"), clip)
    task = classification_task("odd", TaskConfig("digits", templates=["a photo of a {}."]), clip)
    assert task.head.classes == ["x", "y"]


def test_an_image_without_a_label_is_named(clip: CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    with_images(monkeypatch, classes=["x", "y"], templates=["{}"], labels=[0, 1, -1, 1])
    batches = classification_task("odd", TaskConfig("digits"), clip).batches(2)
    assert next(batches).key == ("a", "b")
    with pytest.raises(ValueError, match="odd: c has no label"):
        next(batches)


def test_a_set_with_one_class_is_refused(clip: CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    with_images(monkeypatch, classes=["cat"], templates=["a {}"], labels=[0, 0, 0, 0])
    with pytest.raises(ConfigError, match="has 1 class, 'cat'; nothing can be mistaken for another"):
        digits_task(clip)


def test_a_list_of_images_is_kept_to_and_must_fit_the_data(clip: CLIP, tmp_path: Path) -> None:
    keys = digits_task(clip).source.keys
    (tmp_path / "ids.txt").write_text(f"{keys[7]}\n{keys[3]}\n\n")
    assert digits_task(clip, ids=str(tmp_path / "ids.txt")).source.keys == [keys[7], keys[3]]
    (tmp_path / "ids.txt").write_text(f"{keys[7]}\nn01440764/elsewhere.JPEG\n")
    with pytest.raises(ValueError, match=r"tasks\.ten\.ids: .*ids\.txt names 1 of 2 images .* 'n01440764"):
        digits_task(clip, ids=str(tmp_path / "ids.txt"))
    with pytest.raises(ConfigError, match=r"tasks\.ten\.ids: .*nowhere\.txt cannot be read"):
        digits_task(clip, ids=str(tmp_path / "nowhere.txt"))
