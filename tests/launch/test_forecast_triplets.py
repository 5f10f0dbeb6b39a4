"""What a training on triplets will cost: counts against a whole step, by hand, and files that really are so big."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from configs.load import load_config, recipe_path
from launch.forecast.measure import measured_rate
from launch.forecast.plan import Rates, forecast, kind_of
from launch.forecast.rehearsal import rehearse
from launch.forecast.triplets import perceptual_work
from modules.counting import flops_of
from modules.encoders.tiny import load_tiny
from train.perceptual import build_perceptual, perceptual
from train.runs import open_run
from train.work import forward_flops, sample_flops, triplets

PGD = ("attack={name: pgd, steps: 2, step_size: 0.004}", "threat={norm: linf, eps: 0.016}")


def recipe(name: str, *words: str) -> Any:
    return load_config("perceptual", name, ["data.shards=digit-triplets", "trainer.accelerator=cpu", *words])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lora_tiny", (*PGD, "target=reference")),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in [
                ("mlp_tiny", ()),
                ("lora_tiny", ()),
                ("mlp_tiny", (*PGD, "target=alternatives")),
                ("lora_tiny", (*PGD, "target=all")),
            ]
        ),
    ],
)
def test_the_parts_add_up_to_a_whole_step(name: str, words: tuple[str, ...]) -> None:
    config = recipe(name, *words)
    module = build_perceptual(config, load_tiny().image).train()
    with sdpa_kernel(SDPBackend.MATH):  # nobody counts a CPU's own attention
        whole = flops_of(lambda: module.training_step(triplets(1, 32), 0).backward())
    assert perceptual_work(config).flops == whole == sample_flops(module)


@pytest.mark.slow
def test_a_heads_update_is_that_of_its_two_layers() -> None:
    """By hand: both layers forwards, gradients of both weights, and of what lies between them."""
    work = perceptual_work(recipe("mlp_tiny", "method.hidden=7"))
    tower = forward_flops(load_tiny(weights=False).image.to("meta"))
    assert work.flops == 3 * (tower + (2 + 2 + 1) * 2 * 128 * 7)
    assert work.parameters == 2 * 128 * 7 + 7 + 128 and work.export_bytes == 4 * work.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp_tiny", "lora_tiny"])
def test_a_real_runs_files_are_as_big_as_forecast(name: str, tmp_path: Path) -> None:
    words = ["optimizer.max_steps=1", "data.batch_size=2", "evaluation=null", "trainer.accelerator=cpu"]
    work = forecast(name, words, Rates()).work
    run = open_run("x", recipe(name, *words, "trainer.devices=1"), tmp_path / "run")
    export = perceptual(run)
    (checkpoint,) = run.checkpoints.iterdir()
    assert checkpoint.stat().st_size == pytest.approx(work.checkpoint_bytes, rel=0.05)
    assert export.stat().st_size == pytest.approx(work.export_bytes, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp_tiny", "lora_tiny_adversarial"])
def test_a_step_is_measured_and_rehearsed_among_pretended_processes(name: str) -> None:
    config = recipe(name, "data.batch_size=16")
    before = torch.random.get_rng_state()
    assert measured_rate(config, 2)[0] > 0
    proven = rehearse(config, 8, "ddp")
    assert "8 processes reads 2 samples" in proven[0] and "under ddp among 8" in proven[-1]
    assert torch.equal(torch.random.get_rng_state(), before) and not torch.distributed.is_initialized()


@pytest.mark.slow
def test_a_plan_knows_triplets_by_name_and_by_file(tmp_path: Path) -> None:
    found = forecast("lora_vit_b32", ["devices=8"], Rates(gpu="h100"))
    assert (found.kind, found.share, found.work.parameters) == ("perceptual", 4, 12 * 16 * (768 + 3 * 768))
    file = tmp_path / "mine.yaml"
    file.write_text(recipe_path("perceptual", "mlp_tiny").read_text())
    assert kind_of(str(file)) == "perceptual"
