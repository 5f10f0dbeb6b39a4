"""Operations that are counted on a training's own module are those that the forecast counts on its recipe."""

from __future__ import annotations

import copy

import pytest
import torch

from configs.load import load_config
from data.catalog import open_images
from launch.forecast.diffusion import prior_work
from launch.forecast.finetuning import finetuning_work
from modules.counting import on_meta
from modules.encoders.tiny import load_tiny
from modules.lightning.optim import OptimizerSettings
from modules.lightning.pretraining import ContrastivePretraining
from modules.lightning.prior_training import PriorTraining
from modules.prior.pair_encoder import PairEncoder
from train.finetune import build_module
from train.peaks import peak_of_device
from train.prior import build_prior
from train.work import sample_flops


def module_of(*words: str, recipe: str = "fare_tiny_eps4"):
    config = load_config("finetune", recipe, list(words))
    return config, build_module(config, load_tiny(), open_images("digits", "train", 32))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("fare_tiny_eps4", ["attack.steps=2", "attack.keep=best"]),
        pytest.param("tecoa_tiny_eps4", ["attack.steps=2"], marks=pytest.mark.slow),
    ],
)
def test_a_training_counts_what_the_forecast_counts(recipe: str, words: list[str]) -> None:
    config, module = module_of(*words, recipe=recipe)
    before = copy.deepcopy(module.encoder.state_dict())
    state = torch.get_rng_state()
    assert sample_flops(module) == finetuning_work(config).flops
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.encoder.state_dict().items())


@pytest.mark.parametrize("shards", ["digits", "stored"])
def test_a_priors_training_counts_what_the_forecast_counts(shards: str) -> None:
    """Pictures pass a tower first; stored pairs are the prior's work alone."""
    config = load_config("prior", "prior_tiny", [f"data.shards={shards}", "model.name=tiny", "network.depth=1"])
    clip, expected = load_tiny(), prior_work(config)
    pairs = PairEncoder(clip.image if shards == "digits" else None, clip.text, dim=128, tokens=config.data.tokens)
    module = PriorTraining(build_prior(config, 128), pairs, settings=OptimizerSettings())
    assert sample_flops(module) == expected.flops and len(expected.parts) == (2 if shards == "digits" else 1)


@pytest.mark.slow
def test_what_computes_activations_anew_is_no_work_of_the_model() -> None:
    fewer, plain = (
        sample_flops(module_of("attack.steps=2", *words)[1]) for words in (["trainer.checkpointing=true"], [])
    )
    assert fewer == plain


@pytest.mark.slow
def test_targets_that_are_known_save_a_pass() -> None:
    _, module = module_of("attack.steps=2")
    without, known = sample_flops(module), sample_flops(module, targets=True)
    assert without is not None and known is not None
    assert 0.8 < known / without < 0.9  # 1 of 1 + 2 x 2 + 3, of which the others read less of the last block


def test_what_cannot_be_counted_ends_no_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, module = module_of()
    monkeypatch.setattr("train.work.flops_of", lambda work: 1 / 0)
    assert sample_flops(module) is None and "perf/tflops is left out" in caplog.text
    assert sample_flops(ContrastivePretraining.__new__(ContrastivePretraining)) is None


def test_a_copy_on_meta_has_shapes_and_leaves_the_original_alone() -> None:
    original = load_tiny().image
    copied = on_meta(original)
    assert {tensor.device.type for tensor in (*copied.parameters(), *copied.buffers())} == {"meta"}
    assert [tensor.shape for tensor in copied.parameters()] == [tensor.shape for tensor in original.parameters()]
    assert {tensor.device.type for tensor in original.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16-mixed", 312),
        ("NVIDIA A100-PCIE-40GB", "16-mixed", 312),
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989),
        ("NVIDIA H200", "bf16-mixed", 989),
        ("NVIDIA L40S", "bf16-mixed", 362),
        ("Tesla V100-SXM2-32GB", "16-mixed", 125),
        ("Tesla V100-SXM2-32GB", "bf16-mixed", None),
        ("Tesla V100-PCIE-16GB", "16-mixed", None),
        ("NVIDIA H100 PCIe", "bf16-mixed", None),
        ("NVIDIA H100 NVL", "bf16-mixed", None),
        ("NVIDIA H200 MIG 1g.18gb", "bf16-mixed", None),
        ("NVIDIA H200", "32-true", None),
        ("NVIDIA L40", "bf16-mixed", None),
        ("NVIDIA GeForce RTX 4090", "bf16-mixed", None),
    ],
)
def test_a_peak_is_known_or_left_out(name: str, precision: str, peak: float | None) -> None:
    assert peak_of_device(name, precision) == peak
