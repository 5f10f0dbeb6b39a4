"""What a training will cost: counts against hand and publication, closed forms, files that really are so big."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from configs.files import ConfigError
from configs.load import load_config
from launch.forecast.diffusion import loss, prior_of, prior_work
from launch.forecast.finetuning import finetuning_work, recipe_passes, tower_of
from launch.forecast.hours import hours_by_operations, hours_by_rate, peak_of
from launch.forecast.measure import measured_rate
from launch.forecast.memory import memory_of
from launch.forecast.page import size
from launch.forecast.plan import Rates, forecast, kind_of
from launch.forecast.rehearsal import pretended, rehearse
from launch.forecast.shares import equal_shares
from launch.forecast.work import Part, Work
from modules.counting import flops_of, growth, id_of, imaginary, imagined, kept_bytes
from modules.encoders.clip import load_clip
from modules.encoders.tiny import load_tiny
from tests.launch.typed import typed
from train.finetune import finetune
from train.peaks import PEAK_TFLOPS
from train.runs import open_run
from train.work import Passes, images

WORK = Work("images", (Part("a", 2, 10), Part("b", 1, 5)), 1000, 300, False, 7, 11, 100, "said", "")


def finetuning(*words: str, recipe: str = "fare_tiny_eps4") -> Any:
    return load_config("finetune", recipe, [*words, "data.shards=digits"])


def priors(*words: str, recipe: str = "prior_tiny") -> Any:
    return load_config("prior", recipe, ["data.shards=embeddings", *words])


# --- operations -----------------------------------------------------------------------------------------------------


def vit_flops(*, tokens: int, width: int, layers: int, mlp: int, patch: int, dim: int) -> int:
    """A ViT's pass forwards, by hand: patches, attention, two layers and the projection; 2 for a multiply-add."""
    patches = 2 * (tokens - 1) * width * 3 * patch**2
    attention = 2 * tokens * width * 4 * width + 2 * 2 * tokens**2 * width
    return patches + layers * (attention + 2 * 2 * tokens * width * mlp) + 2 * width * dim


def test_a_tiny_vits_operations_are_those_counted_by_hand() -> None:
    visual: Any = load_tiny(weights=False).image.visual
    layers, width = len(visual.transformer.resblocks), visual.positional_embedding.shape[1]
    tokens, patch, dim = visual.positional_embedding.shape[0], visual.conv1.kernel_size[0], visual.output_dim
    mlp = visual.transformer.resblocks[0].mlp.c_fc.out_features
    by_hand = vit_flops(tokens=tokens, width=width, layers=layers, mlp=mlp, patch=patch, dim=dim)
    assert finetuning_work(finetuning()).parts[0].flops == by_hand


@pytest.mark.parametrize(
    ("model", "published"),
    [("ViT-B-32", 8.8), ("ViT-B-16", 35.1), ("ViT-L-14", 162)],
)
def test_known_towers_cost_what_is_published(model: str, published: float) -> None:
    tower = load_clip(model, "openai", weights=False).image.to("meta").freeze()
    counted = flops_of(lambda: tower.encode_image(torch.empty(1, 3, 224, 224, device="meta")))
    assert counted / 1e9 == pytest.approx(published, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "tag", "side", "published"),
    [
        ("ViT-H-14", "laion2b_s32b_b79k", 224, 335),
        ("ViT-g-14", "laion2b_s12b_b42k", 224, 534),
        ("convnext_base_w", "laion2b_s13b_b82k_augreg", 256, 40.1),
    ],
)
def test_larger_towers_cost_what_is_published(model: str, tag: str, side: int, published: float) -> None:
    tower = load_clip(model, tag, weights=False).image.to("meta").freeze()
    counted = flops_of(lambda: tower.visual(torch.empty(1, 3, side, side, device="meta")))
    assert counted / 1e9 == pytest.approx(published, rel=0.01)


def test_attention_is_counted_where_one_kernel_of_the_processor_computes_it() -> None:
    q, k, v = torch.randn(3, 2, 4, 6, 8, requires_grad=True).unbind()
    forward = 2 * (2 * 2 * 4 * 6 * 6 * 8)
    assert flops_of(lambda: nn.functional.scaled_dot_product_attention(q, k, v)) == forward
    whole = flops_of(lambda: nn.functional.scaled_dot_product_attention(q, k, v).sum().backward())
    assert whole == 3.5 * forward  # the way back computes the weights of attention anew


@pytest.mark.parametrize("groups", [1, 4])
def test_gradients_of_a_convolution_cost_one_pass_each_whatever_its_groups(groups: int) -> None:
    """torch's own count forgets the groups."""
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=groups, device="meta")
    x = torch.empty(2, 8, 5, 5, device="meta", requires_grad=True)
    forward = 2 * 2 * 8 * 5 * 5 * (8 // groups) * 9
    assert flops_of(lambda: layer(x)) == forward
    assert flops_of(lambda: layer(x).sum().backward()) == 3 * forward
    assert flops_of(lambda: layer(x.detach()).sum().backward()) == 2 * forward


def test_the_published_training_costs_about_1e19_operations() -> None:
    """FARE on ViT-L/14: 1 + 10 x 2 + 3 passes of 162 GFLOP, 2.56 million images (with a clean pass: 1.04e19)."""
    found = forecast("fare_vit_l14_eps4", ["nodes=4", "devices=8"], Rates())
    assert found.samples == 2_560_000 and found.share == 4
    assert found.work.flops == pytest.approx(24 * 162e9, rel=0.02)
    assert found.samples * found.work.flops == pytest.approx(1.0e19, rel=0.03)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["attack.steps=10"], Passes(1, 0, 10)),
        (["attack.steps=3", "attack.keep=best"], Passes(1, 1, 3)),
        (["attack.steps=2", "attack.restarts=2"], Passes(1, 0, 2)),  # restarts are of attacks on labels
        (["threat.eps=0"], Passes(1, 0, 0)),
        (["attack.steps=10", "data.targets=kept"], Passes(0, 0, 10)),
    ],
)
def test_passes_are_counted_on_the_recipes_own_attack(words: list[str], expected: Passes) -> None:
    assert recipe_passes(finetuning(*words)) == expected


def test_an_objective_that_never_asks_the_original_encoder_does_not_pay_for_it() -> None:
    work = finetuning_work(finetuning(recipe="tecoa_tiny_eps4"))
    assert [part.name.split(",")[0] for part in work.parts] == ["attack", "update"]


def test_parts_add_up() -> None:
    assert WORK.flops == 2 * 10 + 5


def test_a_priors_operations_are_those_of_its_layers() -> None:
    """By hand: every token passes every matrix, of the last layer the one that is read passes all.

    Attention is causal, but the whole square is computed.
    """
    config = priors()
    net = prior_of(config).net
    n, d = config.network.max_text_len + 4, net.dim
    inner, head = config.network.heads * config.network.dim_head, config.network.dim_head
    keys_and_values = d * 2 * head
    others = d * inner + inner * d + d * 8 * d + 4 * d * d + 2 * inner * (n + 1)
    whole = n * (config.network.depth - 1) * (keys_and_values + others)
    by_hand = 2 * (whole + n * keys_and_values + others + d * d)
    forward = flops_of(lambda: loss(prior_of(config), config, 1, "meta"))
    assert forward == pytest.approx(by_hand, rel=0.01)


def test_a_prior_of_pictures_pays_for_the_image_tower() -> None:
    stored, pictures = prior_work(priors()), prior_work(priors("data.shards='x-{0..3}.tar'"))
    tower = load_tiny(weights=False).image
    assert pictures.flops - stored.flops == finetuning_work(finetuning()).parts[0].flops
    assert pictures.frozen == sum(parameter.numel() for parameter in tower.parameters()) and stored.frozen == 0


# --- memory ---------------------------------------------------------------------------------------------------------


def test_kept_activations_are_those_that_autograd_keeps() -> None:
    """Linear, ReLU, linear: the input and the ReLU's answer, 4 bytes a number; weights do not count."""
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    with imagined():
        empty = imaginary(model)
        kept = growth(lambda count: kept_bytes(lambda: empty(torch.empty(count, 10)), [empty]))
    assert kept == (4 * (10 + 20), 0)


def test_imagined_tensors_keep_as_much_as_real_ones() -> None:
    config = finetuning()
    real, tower = load_tiny().image.train(), tower_of(config)
    there = kept_bytes(lambda: real.encode_image(images(3, 32).x), [real])
    with imagined():
        empty = imaginary(tower)
        assert kept_bytes(lambda: empty.encode_image(images(3, 32).x), [empty]) == there


@pytest.mark.parametrize(("model", "published"), [("ViT-B-32", 39.7), ("ViT-B-16", 154.8)])
def test_known_towers_keep_what_was_measured(model: str, published: float) -> None:
    """MiB an image, in single precision, where all twelve blocks keep all tokens; of ours the last keeps one token's.

    Kernels of attention differ by a tenth in what they keep.
    """
    work = finetuning_work(finetuning(f"model.name={model}", "model.pretrained=openai"))
    assert work.kept / 2**20 == pytest.approx(11 / 12 * published, rel=0.1)


def test_checkpointing_and_half_precision_keep_less() -> None:
    whole = finetuning_work(finetuning())
    less = finetuning_work(finetuning("trainer.checkpointing=true"))
    half = finetuning_work(finetuning("trainer.precision=bf16-mixed"))
    assert less.kept < 0.5 * whole.kept and whole.kept_once == 0
    assert half.kept < whole.kept and half.kept_once == pytest.approx(2 * whole.parameters, rel=0.1)
    assert less.parts[-1].flops > whole.parts[-1].flops  # what is not kept is computed anew


def test_shared_memory_counts_once() -> None:
    model = nn.Linear(4, 4)

    def twice(x: torch.Tensor) -> torch.Tensor:
        return model(x) * model(x).exp() + model(x)

    x = torch.ones(2, 4)
    assert kept_bytes(lambda: twice(x), [model]) <= 5 * 4 * 8
    assert id_of(x) == id_of(x.view(8)) != id_of(x.clone())


def test_an_imagined_copy_has_no_values_and_leaves_the_model_alone() -> None:
    model = load_tiny().image
    before = copy.deepcopy(model.state_dict())
    with imagined():
        empty = imaginary(model)
        assert type(next(empty.parameters())) is not type(next(model.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("ddp", (4, 4, 8)),
        ("zero1", (4, 4, 12 / 8)),
        ("zero2", (4, 4 / 8, 12 / 8)),
        ("zero3", (4 / 8, 4 / 8, 12 / 8)),
        ("fsdp2", (4 + 4 / 8, 4 / 8, 8 / 8)),
    ],
)
def test_memory_is_the_closed_form(way: str, expected: tuple[float, float, float]) -> None:
    found = memory_of(WORK, way, processes=8, samples=5)
    assert (found.weights, found.gradients, found.states) == tuple(1000 * factor for factor in expected)
    assert found.frozen == 1200 and found.activations == 11 + 5 * 7
    assert found.total == 1000 * sum(expected) + 1200 + 46


def test_a_moving_average_is_held_too() -> None:
    import dataclasses

    work = dataclasses.replace(WORK, averaged=True)
    assert memory_of(work, "ddp", processes=8, samples=0).weights == 8000
    assert memory_of(work, "zero3", processes=8, samples=0).weights == 1000


def test_one_process_has_nothing_to_share() -> None:
    assert (
        memory_of(WORK, "zero2", processes=1, samples=1).gradients
        == memory_of(WORK, "ddp", processes=1, samples=1).gradients
    )


# --- disk, data, time -----------------------------------------------------------------------------------------------


def test_a_real_runs_files_are_as_big_as_forecast(tmp_path: Path) -> None:
    words = ["optimizer.max_steps=3", "optimizer.warmup_steps=1", "trainer.checkpoint_every=1", "trainer.keep=2"]
    words += ["data.batch_size=4", "attack.steps=1", "evaluation=null", "trainer.accelerator=cpu", "data.shards=digits"]
    found = forecast("fare_tiny_eps4", words, Rates())
    run = open_run("x", load_config("finetune", "fare_tiny_eps4", [*words, "trainer.devices=1"]), tmp_path / "run")
    export = finetune(run)
    checkpoints = [path.stat().st_size for path in run.checkpoints.iterdir()]
    assert len(checkpoints) == 2 and found.kept == 3 and found.saves == 3  # a third stands before the oldest goes
    assert all(bytes_ == pytest.approx(found.work.checkpoint_bytes, rel=0.03) for bytes_ in checkpoints)
    assert export.stat().st_size == pytest.approx(found.work.export_bytes, rel=0.03)


def test_samples_count_accumulated_batches() -> None:
    found = forecast("fare_tiny_eps4", ["trainer.accumulate=3", "devices=2"], Rates(sample_kb=50))
    assert found.samples == 200 * 64 * 3 and found.share == 32
    assert found.samples * found.sample_bytes == 200 * 64 * 3 * 50_000


def test_hours_are_operations_over_rate() -> None:
    assert hours_by_operations(3.6e18, gpus=10, tflops=1000, share=0.5) == pytest.approx(0.2)
    assert hours_by_rate(7200, 2) == 1.0
    assert {name: peak_of(name.upper()) for name in PEAK_TFLOPS} == PEAK_TFLOPS
    assert (PEAK_TFLOPS["a100"], PEAK_TFLOPS["h100"]) == (312, 989)


@pytest.mark.parametrize(
    ("rates", "count"),
    [
        (Rates(), len(PEAK_TFLOPS)),
        (Rates(gpu="h100"), 1),
        (Rates(gpu="h100", tflops=500), 1),
        (Rates(throughput=100), 1),
        (Rates(throughput=100, gpu="a100"), 2),
    ],
)
def test_time_is_told_by_all_that_is_said(rates: Rates, count: int) -> None:
    assert len(forecast("fare_tiny_eps4", [], rates).hours) == count


def test_a_said_throughput_is_taken_at_its_word() -> None:
    ((words, hours),) = forecast("fare_tiny_eps4", ["devices=8"], Rates(throughput=100)).hours
    assert hours == pytest.approx(200 * 64 / 100 / 3600) and "as you say" in words


@pytest.mark.parametrize("config", [finetuning("trainer.accelerator=cpu"), priors("trainer.accelerator=cpu")])
def test_a_rate_is_measured_in_real_steps(config: Any) -> None:
    before = torch.random.get_rng_state()
    rate, device = measured_rate(config, 4)
    assert rate > 0 and device == "this CPU"
    assert torch.equal(torch.random.get_rng_state(), before)


def test_sizes_are_read_easily() -> None:
    assert [size(n) for n in (0, 999, 1000, 3.648e9, 2.5e17)] == ["0 B", "999 B", "1 kB", "3.65 GB", "250 PB"]


# --- the rehearsal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
@pytest.mark.parametrize(("config", "processes"), [(finetuning("attack.steps=2"), 32), (priors(), 16)])
def test_a_step_among_pretended_processes_is_taken(config: Any, processes: int, way: str) -> None:
    proven = rehearse(config, processes, way)
    assert f"{processes} processes" in proven[0] and f"under {way} among {processes}" in proven[-1]
    assert not torch.distributed.is_initialized()


def test_what_cannot_be_rehearsed_is_said() -> None:
    assert rehearse(finetuning("attack.steps=1"), 4, "zero2")[-1] == "not rehearsed: zero2, which needs real processes"


def test_a_step_that_would_fail_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from modules.objectives import FARE

    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not fit\nat all")

    monkeypatch.setattr(FARE, "outer", broken)
    with pytest.raises(ConfigError, match="^a step on the recipe's own model failed: shapes do not fit$"):
        rehearse(finetuning("attack.steps=1"), 4, "ddp")
    assert not torch.distributed.is_initialized()


def test_pretended_processes_do_not_mix_with_real_ones() -> None:
    with pretended(3):
        assert torch.distributed.get_world_size() == 3
        with pytest.raises(ConfigError, match="a process of its own"), pretended(3):
            pass


def test_all_processes_read_the_same_number_of_samples() -> None:
    assert equal_shares(128, 32) == 4
    with pytest.raises(ConfigError, match="128 over all processes, and 24 cannot share it equally"):
        equal_shares(128, 24)


def test_an_unequal_plan_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from data.plan import PositionBatches

    original = PositionBatches.__iter__

    def greedy(self: PositionBatches) -> Any:
        for batch in original(self):
            yield [*batch, 0] if self.rank == 1 else batch

    monkeypatch.setattr(PositionBatches, "__iter__", greedy)
    with pytest.raises(AssertionError, match="reads more than another"):
        equal_shares(8, 2)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Any]:
    """The command in this process: exit code, standard output, lines of standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        code = typed(monkeypatch, *arguments)
        told = capsys.readouterr()
        return code, told.out, told.err.splitlines()

    return run


def test_a_plan_tells_work_time_memory_disk_and_what_was_rehearsed(here: Any, tmp_path: Path) -> None:
    code, out, err = here("plan", "fare_tiny_eps4", "nodes=2", "devices=4", "trainer.strategy=fsdp2", "--gpu", "h100")
    assert (code, err) == (0, []), err
    for text in ("on 2 x 4", "836,864 parameters", "8 on each GPU", "12,800 images", "8 x h100", "> fsdp2"):
        assert text in out, text
    assert "note: the recipe computes in 32-true" in out and "rehearsed: a step under fsdp2 among 8" in out
    assert not list(tmp_path.iterdir())


def test_a_priors_plan_knows_its_own_ways(here: Any) -> None:
    code, out, _ = here("plan", "prior_tiny", "--tflops", "1", "--no-rehearsal")
    assert code == 0 and "zero3" in out and "509,440 parameters" in out and "rehearsed" not in out
    assert "slower than" not in out  # the rate is the user's own


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fare_tiny"], "no training has the recipe 'fare_tiny'"),
        (["fare_tiny_eps4", "devices=3"], "cannot share it equally"),
        (["fare_tiny_eps4", "devices=all"], "trainer.devices"),
        (["fare_tiny_eps4", "--gpu", "tpu"], "unknown GPU 'tpu'"),
        (["fare_tiny_eps4", "--mfu", "2"], "--mfu 2.0"),
        (["fare_tiny_eps4", "--tflops", "0"], "--tflops 0.0"),
        (["fare_tiny_eps4", "--throughput", "-1"], "--throughput -1.0"),
        (["fare_tiny_eps4", "--sample-kb", "0"], "--sample-kb 0.0"),
        (["fare_tiny_eps4", "model.name=ViT-Q"], "unknown model 'ViT-Q'"),
        (["prior_tiny", "model=null"], "the width of the embeddings is unknown"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(words: list[str], told: str, here: Any) -> None:
    code, out, err = here("plan", *words)
    assert (code, out, len(err)) == (2, "", 1), err
    assert err[0].startswith("robustclip: ") and told in err[0]


def test_all_faults_of_a_recipe_come_first(here: Any) -> None:
    code, out, err = here("plan", "fare_tiny_eps4", "threat.eps=-1", "attack.nam=3", "devices=3", "--gpu", "tpu")
    assert (code, out, len(err)) == (2, "", 2) and "eps is -1" in err[0] and "nam" in err[1]


def test_a_file_says_its_own_kind(tmp_path: Path) -> None:
    from configs.load import recipe_path

    for kind, name in (("finetune", "fare_tiny_eps4"), ("prior", "prior_tiny")):
        file = tmp_path / f"{kind}.yaml"
        file.write_text(recipe_path(kind, name).read_text())
        assert kind_of(str(file)) == kind


def test_the_command_teaches_with_an_example(here: Any) -> None:
    assert "Example: robustclip plan" in here("plan", "--help")[1]
