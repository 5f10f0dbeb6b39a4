"""Fine-tuning from a recipe: what it leaves, that it resumes exactly, and that evaluation does not touch it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from configs.files import ConfigError
from configs.load import load_config
from configs.schema import ModelConfig
from eval.evaluate import fingerprint, load_model, load_subject
from eval.results import read_results
from modules.encoders.tiny import load_tiny
from tests.eval.class_folders import folders
from train.finetune import finetune
from train.metrics import MetricsTable
from train.runs import open_run

SMALL = [
    "optimizer.max_steps=6",
    "optimizer.warmup_steps=2",
    "data.batch_size=8",
    "attack.steps=2",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
    "evaluation.tasks.digits-small.limit=8",
    "evaluation.attacks.pgd.steps=2",
]


def trained(out: Path, *overrides: str, recipe: str = "fare_tiny_eps4") -> dict[str, torch.Tensor]:
    config = load_config("finetune", recipe, [*SMALL, *overrides])
    return load_file(finetune(open_run("run", config, out)))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, trained(out)


def test_a_run_leaves_its_config_metrics_checkpoints_results_and_export(whole: Any) -> None:
    out, weights = whole
    assert {p.name for p in (out / "checkpoints").iterdir()} == {f"step=00000{s}.ckpt" for s in (2, 4, 6)}
    for name in ("config.yaml", "env.json", "metrics.csv", "results.jsonl", "results.csv"):
        assert (out / name).stat().st_size > 0
    assert len((out / "metrics.csv").read_text().splitlines()) == 7
    clip, metadata = load_subject(ModelConfig("tiny", checkpoint=str(out / "export" / "encoder.safetensors")))
    assert metadata["objective"] == "fare" and metadata["step"] == 6 and metadata["base"]["name"] == "tiny"
    assert same(weights, dict(clip.image.visual.state_dict()))
    assert fingerprint(clip.image) != fingerprint(load_tiny().image), "the weights moved"


def test_every_checkpoint_is_evaluated_once_on_its_own_weights(whole: Any) -> None:
    out, _ = whole
    rows = read_results(out / "results.jsonl")
    assert {r.step for r in rows} == {2, 4, 6}
    clean = [(r.step, r.defense) for r in rows if r.metric == "clean_accuracy"]
    assert len(clean) == len(set(clean)) == 9
    for step in (2, 4):
        checkpoint = out / "checkpoints" / f"step=00000{step}.ckpt"
        judged = json.loads(next((out / "state").glob(f"step=00000{step}-*/*.json")).read_text())["weights"]
        assert judged == fingerprint(load_model(ModelConfig("tiny", checkpoint=str(checkpoint))).image)


def test_evaluation_leaves_the_training_bit_identical(whole: Any, tmp_path: Path) -> None:
    out, weights = whole
    assert same(weights, trained(tmp_path / "run", "evaluation=null"))
    assert (tmp_path / "run" / "metrics.csv").read_text() == (out / "metrics.csv").read_text()


@pytest.mark.parametrize("step", [3, 4])
def test_a_killed_run_ends_as_if_nothing_had_happened(
    step: int, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, weights = whole
    original = MetricsTable.on_train_batch_end

    def killed(self: Any, trainer: Any, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == step + 1:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(MetricsTable, "on_train_batch_end", killed)
        with pytest.raises(RuntimeError, match="killed"):
            trained(tmp_path / "run")
    assert same(weights, trained(tmp_path / "run"))
    assert (tmp_path / "run" / "metrics.csv").read_text() == (out / "metrics.csv").read_text()

    def numbers(folder: Path) -> list[tuple[Any, ...]]:
        rows = read_results(folder / "results.jsonl")
        return [(r.step, r.defense, r.attack, r.view, r.value) for r in rows]

    assert numbers(tmp_path / "run") == numbers(out)


def test_a_checkpoint_saved_but_not_evaluated_when_killed_is_evaluated_first(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import eval.callback as callback

    def killed(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(callback, "evaluate", killed)
        with pytest.raises(RuntimeError, match="killed"):
            trained(tmp_path / "run")
    assert not (tmp_path / "run" / "results.jsonl").exists()
    assert same(whole[1], trained(tmp_path / "run"))
    assert [r.step for r in read_results(tmp_path / "run" / "results.jsonl") if r.defense == "none"][0] == 2


def test_checkpoints_hold_plain_values_and_no_reference_encoder(whole: Any) -> None:
    content = torch.load(whole[0] / "checkpoints" / "step=000006.ckpt", weights_only=True)
    assert content["robustclip"]["kind"] == "encoder"
    assert {name.split(".")[0] for name in content["state_dict"]} == {"encoder"}
    assert len(content["state_dict"]) == len(whole[1])


def test_only_the_newest_checkpoints_are_kept_where_the_recipe_says_so(tmp_path: Path) -> None:
    trained(tmp_path / "run", "trainer.keep=1", "evaluation=null")
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step=000006.ckpt"]


def test_tecoa_runs_from_its_recipe(tmp_path: Path) -> None:
    weights = trained(tmp_path / "run", "evaluation=null", recipe="tecoa_tiny_eps4")
    assert not same(weights, dict(load_tiny().image.visual.state_dict()))


def test_labels_of_a_single_class_train_nothing_and_are_refused(tmp_path: Path) -> None:
    where = folders(tmp_path / "one", {"train": 9}, classes=1)
    with pytest.raises(ConfigError, match="has 1 class, '.*'; nothing can be mistaken.*or say objective.name=fare"):
        trained(tmp_path / "run", f"data.shards={where}", "evaluation=null", recipe="tecoa_tiny_eps4")


def test_a_tower_trained_at_another_resolution_says_so_and_loads_at_it(tmp_path: Path) -> None:
    weights = trained(tmp_path / "run", "evaluation=null", "model.image_size=64", "optimizer.max_steps=3")
    file = tmp_path / "run" / "export" / "encoder.safetensors"
    clip, _ = load_subject(ModelConfig("tiny", checkpoint=str(file)))
    assert clip.image.image_size == 64 and same(weights, dict(clip.image.visual.state_dict()))
    with pytest.raises(ValueError, match="positions are for images of 64 x 64 pixels; say model.image_size=64"):
        load_subject(ModelConfig("tiny", checkpoint=str(file), image_size=32))


def test_fares_loss_falls(tmp_path: Path) -> None:
    trained(tmp_path / "run", "evaluation=null", "optimizer.max_steps=20", "data.batch_size=32")
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    losses = [float(row.split(",")[1]) for row in rows]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_a_checkpoint_of_another_base_is_refused_with_the_remedy(whole: Any) -> None:
    checkpoint = str(whole[0] / "export" / "encoder.safetensors")
    with pytest.raises(ConfigError, match="was trained from tiny .*; say model.name=tiny"):
        load_subject(ModelConfig("tiny", pretrained="other", checkpoint=checkpoint))
