"""Tasks that name a data set of the catalog, from the recipe to the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from configs.files import ConfigError
from configs.load import load_config
from configs.schema import TaskConfig
from eval.evaluate import evaluate_checkpoint
from eval.harness import evaluate
from eval.plan import Plan, build_plan
from eval.rows import Subject
from eval.tasks.classification import ClassificationTask, classification_task
from modules.encoders.clip import CLIP
from modules.encoders.resized import Resized
from tests.data.benchmarks.test_opening import CIFAR10, TEMPLATES
from tests.data.layouts import miniatures as small


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """CIFAR-10's layout with six test pictures, and templates beside it."""
    small.cifar10_binary(tmp_path, small.pixels(6, 32), [0, 1, 2, 3, 4, 5], CIFAR10)
    small.lines(tmp_path / "zeroshot_classification_templates.txt", TEMPLATES)
    small.lines(tmp_path / "classnames.txt", CIFAR10)
    return tmp_path


def task(clip: CLIP, where: Path, dataset: str = "ttc/cifar10", **settings: object):
    config = TaskConfig(str(where), dataset=dataset, **{"allow_count_mismatch": True, **settings})  # pyright: ignore[reportArgumentType]
    return classification_task("c", config, clip)


def test_a_wrong_count_stops_before_anything_is_judged(clip: CLIP, cifar: Path) -> None:
    with pytest.raises(ConfigError, match=r"tasks\.c: '.*' holds 6 images of split test where ttc/cifar10 has 10,000"):
        task(clip, cifar, allow_count_mismatch=False)
    with pytest.raises(ConfigError, match=r"tasks\.c: 'cifar10' is used in 3 ways"):
        task(clip, cifar, dataset="cifar10")


def test_native_pictures_are_attacked_at_their_size_by_the_resize_that_the_protocol_has(
    clip: CLIP, cifar: Path
) -> None:
    native = task(clip, cifar, "fare/cifar10")
    assert native.resolution == 32
    wrapped = native.around(clip.image)
    assert isinstance(wrapped, Resized) and (wrapped.image_size, wrapped.antialias) == (32, False)
    assert native.around(clip.image) is wrapped and native.around(wrapped) is wrapped
    bare = task(clip, cifar)
    assert bare.around(clip.image) is clip.image
    assert native.prompts != bare.prompts


def test_every_row_tells_resolution_prompts_and_what_differs(
    clip: CLIP, planned: Callable[..., Plan], cifar: Path
) -> None:
    said = f"tasks={{c: {{dataset: fare/cifar10, shards: '{cifar}', allow_count_mismatch: true}}}}"
    plan = planned(said, "defenses={none: {}, clipure_cos: {}}", "attacks={pgd: {steps: 2}}")
    found = evaluate(clip.image, plan, Subject("CLIP"), quiet=True)
    assert found.results
    for row in found.results:
        assert row.qualifier == "6 images of split test where fare/cifar10 has 10,000"
        assert (row.resolution, row.prompts) == (32, plan.tasks[0].prompts)
    assert [note["title"] for note in found.notes] == ["c: the data"]


def test_rows_of_other_sets_know_their_resolution_too(clip: CLIP, planned: Callable[..., Plan]) -> None:
    plan = planned("attacks={pgd: {steps: 1}}", "defenses={none: {}}", "tasks.digits.limit=4")
    found = evaluate(clip.image, plan, Subject("CLIP"), quiet=True)
    assert {(row.resolution, len(row.prompts), row.qualifier) for row in found.results} == {(32, 12, "")}


def test_tied_classes_share_one_direction_and_the_report_says_so(clip: CLIP, tmp_path: Path) -> None:
    small.class_folders(tmp_path / "caltech101/101_ObjectCategories", ["Faces", "Faces_easy", "anchor"])
    found = task(clip, tmp_path, "ttc/caltech101")
    assert found.head.classes == ["person", "person", "anchor"]
    assert torch.equal(found.head.weights[0], found.head.weights[1])
    assert any("'person' for classes 0, 1" in note["text"] for note in found.notes())


def test_a_list_is_kept_in_its_order_and_counted(clip: CLIP, cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from data.benchmarks.registry import entry

    known = replace(entry("ttc/cifar10"), ids=3, counts={"test": 6})
    monkeypatch.setattr("eval.tasks.benchmarks.entry", lambda _: known)
    with pytest.raises(ConfigError, match=r"tasks\.c\.ids is missing: ttc/cifar10 is judged on a list of 3"):
        task(clip, cifar)
    ids = cifar / "ids.txt"
    small.lines(ids, ["test-00004", "test-00000", "test-00002"])
    found = task(clip, cifar, ids=str(ids), allow_count_mismatch=False)
    assert list(found.source.keys) == ["test-00004", "test-00000", "test-00002"]
    assert list(task(clip, cifar, ids=str(ids), first=2).source.keys) == ["test-00004", "test-00000"]
    small.lines(ids, ["test-00004"])
    with pytest.raises(ConfigError, match="is a list of 1 images where ttc/cifar10 has 3; name the whole list"):
        task(clip, cifar, ids=str(ids), allow_count_mismatch=False)
    assert task(clip, cifar, ids=str(ids)).qualifiers == ["a list of 1 images where ttc/cifar10 has 3"]


def test_the_training_split_is_there_for_tuning(clip: CLIP, cifar: Path) -> None:
    for i in range(1, 6):
        file = cifar / "cifar-10-batches-bin" / f"data_batch_{i}.bin"
        file.write_bytes((cifar / "cifar-10-batches-bin/test_batch.bin").read_bytes())
    found = task(clip, cifar, tune_split="train")
    assert found.tuning is not None and len(found.tuning) == 30
    assert task(clip, cifar).tuning is None


def test_what_was_opened_stands_beside_the_results(clip: CLIP, cifar: Path, tmp_path: Path) -> None:
    config = load_config(
        "evaluate",
        "digits",
        [
            f"tasks={{c: {{dataset: ttc/cifar10, shards: '{cifar}', allow_count_mismatch: true}}}}",
            *("defenses={none: {}}", "attacks={pgd: {steps: 1}}", "curve={}", "examples=0"),
        ],
    )
    (task,) = build_plan(config, clip).tasks
    assert isinstance(task, ClassificationTask) and task.benchmark is not None
    evaluate_checkpoint(config, tmp_path / "run")
    record = json.loads((tmp_path / "run/data-c.json").read_text())
    assert (record["dataset"], record["count"], record["expected"]) == ("ttc/cifar10", 6, 10000)
    assert (record["names"], record["templates"]) == (CIFAR10, ["This is a photo of a {}."])
    assert (record["names_from"], record["layout"]) == ("file", "CIFAR-10, binary")
