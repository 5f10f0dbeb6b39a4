"""Training on triplets from a recipe: what it leaves, that it goes on exactly, and what its exports see."""

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
from eval.evaluate import evaluate_checkpoint, fingerprint, load_model, load_subject
from eval.results import read_results
from modules.encoders.tiny import load_tiny
from modules.perceptual.low_rank import LowRankEncoder
from modules.perceptual.residual_head import ResidualHead
from train.metrics import MetricsTable
from train.perceptual import build_perceptual, perceptual, training_triplets
from train.runs import open_run

SMALL = (
    "optimizer.max_steps=6",
    "data.batch_size=8",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
)
JUDGED = ("evaluation.tasks.digit-triplets.limit=12", "evaluation.attacks.apgd.steps=2", "evaluation.watch=0")
METRIC = "eval/2afc/digit-triplets/none/none/none/clean_accuracy"
State = dict[str, torch.Tensor]


def trained(out: Path, *overrides: str, recipe: str = "lora_tiny") -> State:
    config = load_config("perceptual", recipe, [*SMALL, *overrides])
    return load_file(perceptual(open_run("run", config, out)))


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    out = tmp_path_factory.mktemp("lora") / "run"
    return out, trained(out, *JUDGED)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    out = tmp_path_factory.mktemp("mlp") / "run"
    return out, trained(out, "evaluation=null", "optimizer.lr=0.01", recipe="mlp_tiny")


def test_a_run_leaves_metrics_checkpoints_judged_by_2afc_and_an_ordinary_encoder(lora: Any) -> None:
    out, weights = lora
    assert {p.name for p in (out / "checkpoints").iterdir()} == {f"step=00000{s}.ckpt" for s in (2, 4, 6)}
    header = (out / "metrics.csv").read_text().splitlines()[0]
    assert "train/loss" in header and "train/accuracy" in header
    rows = [r for r in read_results(out / "results.jsonl") if r.metric in ("clean_accuracy", "robust_accuracy")]
    assert {(r.step, r.task, r.attack) for r in rows} >= {(s, "2afc", a) for s in (2, 4, 6) for a in ("none", "apgd")}
    clip, metadata = load_subject(ModelConfig("tiny", checkpoint=str(out / "export" / "encoder.safetensors")))
    assert metadata["step"] == 6 and metadata["method"]["alpha"] == 0.5 and metadata["encoder"] == "lora-tiny"
    assert same(weights, dict(clip.image.visual.state_dict()))
    base = load_tiny().image.visual.state_dict()
    moved = {name for name, value in base.items() if not torch.equal(value, weights[name])}
    assert moved and all(name.endswith("attn.in_proj_weight") for name in moved)


@pytest.mark.slow
def test_the_merged_encoder_sees_what_the_last_checkpoint_saw(lora: Any) -> None:
    out, _ = lora
    config = load_config("perceptual", "lora_tiny", SMALL)
    module = build_perceptual(config, load_tiny().image)
    assert isinstance(module.encoder, LowRankEncoder)
    content = torch.load(out / "checkpoints" / "step=000006.ckpt", weights_only=True)
    assert all(name.endswith((".down", ".up")) for name in content["state_dict"]), "only what is trained is kept"
    module.load_state_dict(content["state_dict"], strict=False)
    module.eval()
    x = torch.stack([training_triplets(config.data, 32)[i].x for i in range(16)])
    merged = load_model(ModelConfig("tiny", checkpoint=str(out / "export" / "encoder.safetensors"))).image.eval()
    with torch.no_grad():
        assert (module.encoder(x) - merged(x)).abs().max() < 1e-5 * merged(x).abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["lora_tiny", "mlp_tiny"])
def test_a_killed_run_ends_as_if_nothing_had_happened(
    recipe: str, lora: Any, mlp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = lora[1] if recipe == "lora_tiny" else mlp[1]
    said = ["evaluation=null", *(["optimizer.lr=0.01"] if recipe == "mlp_tiny" else [])]
    original = MetricsTable.on_train_batch_end

    def killed(self: Any, trainer: Any, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == 5:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(MetricsTable, "on_train_batch_end", killed)
        with pytest.raises(RuntimeError, match="killed"):
            trained(tmp_path / "run", *said, recipe=recipe)
    torch.manual_seed(1)  # nothing is drawn from the global generator
    assert same(weights, trained(tmp_path / "run", *said, recipe=recipe))


@pytest.mark.slow
def test_a_head_is_judged_behind_its_encoder_and_refused_behind_another(mlp: Any, lora: Any, tmp_path: Path) -> None:
    head = str(mlp[0] / "export" / "head.safetensors")
    clip, metadata = load_subject(ModelConfig("tiny", head=head))
    assert isinstance(clip.image, ResidualHead) and metadata["step"] == 6
    assert metadata["file"]["head"]["name"] == "head.safetensors"
    assert same(mlp[1], clip.image.head_state()) and fingerprint(clip.image) != fingerprint(load_tiny().image)
    said = [f"model.head={head}", "tasks.digit-triplets.limit=12", "attacks.apgd.steps=2", "examples=0"]
    evaluate_checkpoint(load_config("evaluate", "choice_digits", said), tmp_path / "judged")
    row = read_results(tmp_path / "judged" / "results.jsonl")[0]
    assert row.checkpoint == "tiny + head.safetensors" and row.step == 6
    other = str(lora[0] / "export" / "encoder.safetensors")
    with pytest.raises(ValueError, match=r"was trained on another encoder \(\w+, tiny\) than this one"):
        load_subject(ModelConfig("tiny", checkpoint=other, head=head))
    with pytest.raises(ConfigError, match="is a head, not an encoder"):
        load_subject(ModelConfig("tiny", checkpoint=head))
    with pytest.raises(ValueError, match="is not a head"):
        load_subject(ModelConfig("tiny", head=other))


@pytest.mark.slow
def test_where_the_best_is_kept_it_is_what_is_exported(tmp_path: Path) -> None:
    said = [*JUDGED, "optimizer.lr=0.03", f"trainer.keep_best={METRIC}", "trainer.keep=1"]
    weights = trained(tmp_path / "run", *said, recipe="mlp_tiny")
    best = json.loads((tmp_path / "run" / "checkpoints" / "best.json").read_text())
    rows = {r.step: r.value for r in read_results(tmp_path / "run" / "results.jsonl") if r.key == METRIC}
    assert best["step"] == min(rows, key=lambda step: (-rows[step], step))
    kept = torch.load(tmp_path / "run" / "checkpoints" / best["checkpoint"], weights_only=True)["state_dict"]
    assert same(weights, {name.removeprefix("encoder."): value for name, value in kept.items()})


def test_a_run_does_not_go_on_from_another_encoder() -> None:
    module = build_perceptual(load_config("perceptual", "mlp_tiny", SMALL), load_tiny().image)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    checkpoint["robustclip"]["started_from"] = "another"
    with pytest.raises(ValueError, match="began on the encoder another, and model now names"):
        module.on_load_checkpoint(checkpoint)


@pytest.mark.slow
def test_an_adversarial_training_attacks_its_triplets(tmp_path: Path) -> None:
    said = ("evaluation=null", "optimizer.max_steps=2", "attack.steps=2")
    attacked = trained(tmp_path / "run", *said, recipe="lora_tiny_adversarial")
    assert not same(attacked, trained(tmp_path / "clean", "evaluation=null", "optimizer.max_steps=2"))
    assert "train/attack_gain" in (tmp_path / "run" / "metrics.csv").read_text()
    export = tmp_path / "run" / "export" / "encoder.safetensors"
    assert load_subject(ModelConfig("tiny", checkpoint=str(export)))[1]["threat"]["target"] == "reference"
