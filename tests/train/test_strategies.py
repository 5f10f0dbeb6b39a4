"""However a training is spread over processes, it is the same training."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy
from safetensors.torch import load_file

from configs.files import ConfigError
from configs.load import load_config
from configs.schema import ModelConfig, TrainerConfig
from eval.evaluate import fingerprint, load_model
from eval.results import read_results
from modules.encoders.tiny import load_tiny
from modules.prior.storage import load_prior
from tests.train.pair import launch
from train.finetune import finetune
from train.prior import train_prior
from train.runs import open_run
from train.strategies import WholeFSDP2, strategy_of

DEEPSPEED = find_spec("deepspeed") is not None
NEEDS_DEEPSPEED = pytest.mark.skipif(not DEEPSPEED, reason="DeepSpeed is not installed")
# Adam divides by a gradient's own size: where that is rounding alone, as for attention's key biases, only a large eps
# keeps two orders of summation together.
SMALL = (
    "optimizer.eps=1.0",
    "optimizer.warmup_steps=1",
    "trainer.accumulate=2",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
    "trainer.accelerator=cpu",
    "trainer.keep=-1",
)
FINETUNE = (
    # under l2 a step moves smoothly with the gradient; under linf rounding decides the sign of what is nearly zero
    "threat={norm: l2, eps: 0.3}",
    "attack={name: pgd, steps: 2, step_size: 0.15, keep: last}",
    "data.batch_size=8",
    "optimizer.max_steps=4",
    "optimizer.lr=1.0e-4",
    "trainer.clip=500",
)
PRIOR = (
    "data.batch_size=16",
    "optimizer.max_steps=6",
    "data.shards=digits",
    "data.split=tune",
    "data.validation=12",
    "validation={every: 6, batch_size: 4, sample_steps: 2, bins: 2}",  # three batches: one process has two of them
    "ema={beta: 0.5, every: 1, after: 2}",
    "network.depth=1",
    "trainer.clip=1",
)
RECIPES = {"finetune": ("fare_tiny_eps4", FINETUNE), "prior": ("prior_tiny", PRIOR)}
ZERO = [pytest.param(name, marks=NEEDS_DEEPSPEED) for name in ("zero1", "zero2")]
OF_FINETUNE: list[Any] = ["ddp", "fsdp2", *ZERO]
OF_PRIOR: list[Any] = ["ddp", "fsdp2", ZERO[1], pytest.param("zero3", marks=NEEDS_DEEPSPEED)]
STOPPED = 3  # in the batches after this step the power fails; the checkpoint before is that of step 2
TOLERANCE = 2e-6
"""Of weights that move a hundred times as far: sums are rounded elsewhere."""

distributed = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(1800)]


def overrides(kind: str, *changed: str) -> list[str]:
    evaluation = ["evaluation=null"] if kind == "finetune" and "evaluation" not in " ".join(changed) else []
    return [*SMALL, *RECIPES[kind][1], *evaluation, *changed]


def jobs_of(folder: Path, evaluation: str) -> Iterator[dict[str, Any]]:
    """What the two processes do, one after the other."""

    def job(kind: str, name: str, *changed: str, planted: dict[str, Any] | None = None) -> dict[str, Any]:
        told = overrides(kind, "trainer.devices=2", *changed)
        where = {"recipe": RECIPES[kind][0], "overrides": told, "out": str(folder / name)}
        return {"kind": kind, **where, "planted": planted}

    # first of all: where ZeRO-3 has run, DeepSpeed's own linear layers stay in the process and round otherwise
    half = "trainer.precision=bf16-mixed"
    for strategy in ["ddp", "fsdp2", *(["zero2"] if DEEPSPEED else [])]:
        yield job("finetune", f"half-{strategy}", f"trainer.strategy={strategy}", half)
    there = {"finetune": ["ddp", "fsdp2", "zero1", "zero2"], "prior": ["ddp", "fsdp2", "zero2", "zero3"]}
    for kind, strategies in there.items():
        for strategy in strategies:
            if strategy.startswith("zero") and not DEEPSPEED:
                continue
            told = f"trainer.strategy={strategy}"
            yield job(kind, f"{kind}-{strategy}", told)
            yield job(kind, f"{kind}-{strategy}-resumed", told, planted={"what": "power", "step": STOPPED})
            yield job(kind, f"{kind}-{strategy}-resumed", told)
    yield job("finetune", "evaluated", "trainer.strategy=fsdp2", evaluation)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, evaluation: str) -> Path:
    """The folder of all runs of two processes."""
    folder = tmp_path_factory.mktemp("pair")
    launch(list(jobs_of(folder, evaluation)), folder)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(kind, changed) -> the folder of one process's run of the same global batches."""
    done: dict[tuple[str, ...], Path] = {}

    def trained(kind: str, *changed: str) -> Path:
        if (kind, *changed) not in done:
            out = tmp_path_factory.mktemp("alone") / "run"
            config = load_config(kind, RECIPES[kind][0], overrides(kind, "trainer.devices=1", *changed))
            {"finetune": finetune, "prior": train_prior}[kind](open_run("alone", config, out))
            done[kind, *changed] = out
        return done[kind, *changed]

    return trained


def weights(run: Path) -> dict[str, torch.Tensor]:
    (file,) = (run / "export").glob("*.safetensors")
    return load_file(file)


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def column(run: Path, name: str, table: str = "metrics.csv") -> list[float]:
    with (run / table).open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def losses(run: Path) -> list[float]:
    return column(run, "train/loss")


class TestTwoProcesses:
    pytestmark = distributed

    @pytest.mark.parametrize("strategy", OF_FINETUNE)
    def test_a_fine_tuning_ends_as_that_of_one_process(self, strategy: str, pair: Path, alone: Any) -> None:
        one, two = alone("finetune"), pair / f"finetune-{strategy}"
        assert len(losses(one)) == 4 and losses(two) == pytest.approx(losses(one), rel=1e-5)
        for name in ("train/grad_norm", "train/attack_gain", "train/cosine"):
            assert len(column(one, name)) == 4 and column(two, name) == pytest.approx(column(one, name), rel=1e-4), name
        assert all(speed > 0 for speed in column(two, "perf/images_per_s", "perf.csv"))
        assert difference(weights(one), weights(two)) < TOLERANCE
        assert difference(weights(one), dict(load_tiny().image.visual.state_dict())) > 100 * TOLERANCE
        loaded = load_model(ModelConfig("tiny", checkpoint=str(two / "export" / "encoder.safetensors")))
        assert fingerprint(loaded.image) != fingerprint(load_tiny().image)

    @pytest.mark.parametrize("strategy", OF_PRIOR)
    def test_a_prior_and_its_average_end_as_those_of_one_process(self, strategy: str, pair: Path, alone: Any) -> None:
        one, two = alone("prior"), pair / f"prior-{strategy}"
        assert len(losses(one)) == 6 and losses(two) == pytest.approx(losses(one), rel=1e-5)
        norms = column(one, "train/grad_norm")
        assert len(norms) == 6 and column(two, "train/grad_norm") == pytest.approx(norms, rel=1e-4)
        assert difference(weights(one), weights(two)) < TOLERANCE
        last = "checkpoints/step=000006.ckpt"
        trained = torch.load(two / last, weights_only=True)["state_dict"]
        live = {n.removeprefix("prior."): v for n, v in trained.items() if n.startswith("prior.")}
        average = {n.removeprefix("ema_prior."): v for n, v in trained.items() if n.startswith("ema_prior.")}
        assert difference(weights(two), average) == 0 and difference(live, average) > 10 * TOLERANCE
        load_prior(two / "export" / "prior.safetensors")
        assert column(two, "val/loss") == pytest.approx(column(one, "val/loss"), rel=1e-5)

    @pytest.mark.parametrize("strategy", OF_FINETUNE)
    def test_a_fine_tuning_goes_on_with_the_same_bits(self, strategy: str, pair: Path) -> None:
        assert_same_bits(pair / f"finetune-{strategy}", pair / f"finetune-{strategy}-resumed")

    @pytest.mark.parametrize("strategy", OF_PRIOR)
    def test_a_prior_goes_on_with_the_same_bits(self, strategy: str, pair: Path) -> None:
        assert_same_bits(pair / f"prior-{strategy}", pair / f"prior-{strategy}-resumed")

    @pytest.mark.parametrize(
        ("kind", "strategy"),
        [("finetune", "ddp"), ("finetune", "fsdp2"), ("prior", "fsdp2")]
        + [
            pytest.param(kind, strategy, marks=NEEDS_DEEPSPEED)
            for kind, strategy in (("finetune", "zero1"), ("finetune", "zero2"), ("prior", "zero2"), ("prior", "zero3"))
        ],
    )
    def test_one_process_goes_on_from_any_checkpoint(
        self, kind: str, strategy: str, pair: Path, alone: Any, tmp_path: Path
    ) -> None:
        recipe, name = RECIPES[kind][0], "step=000002.ckpt"
        config = load_config(kind, recipe, overrides(kind, "trainer.devices=1"))
        run = open_run("alone", config, tmp_path / "run")
        run.checkpoints.mkdir()
        (run.checkpoints / name).write_bytes((pair / f"{kind}-{strategy}" / "checkpoints" / name).read_bytes())
        {"finetune": finetune, "prior": train_prior}[kind](run)
        assert difference(weights(alone(kind)), weights(run.folder)) < TOLERANCE
        assert losses(run.folder) == pytest.approx(losses(alone(kind))[2:], rel=1e-5)

    @pytest.mark.parametrize("strategy", ["ddp", "fsdp2", pytest.param("zero2", marks=NEEDS_DEEPSPEED)])
    def test_half_precision_leaves_weights_and_losses_whole(self, strategy: str, pair: Path, alone: Any) -> None:
        one, two = alone("finetune", "trainer.precision=bf16-mixed"), pair / f"half-{strategy}"
        assert losses(two) == pytest.approx(losses(one), rel=2e-2)
        assert losses(two) == pytest.approx(losses(pair / "half-ddp"), rel=5e-3)
        assert losses(two) != pytest.approx(losses(alone("finetune")), rel=1e-5), "nothing ran in half precision"
        assert {value.dtype for value in weights(two).values()} == {torch.float32}
        moved = {n: v - v.bfloat16().float() for n, v in weights(two).items()}
        assert max(float(v.abs().max()) for v in moved.values()) > 0, "the weights were rounded"

    def test_sharded_weights_are_judged_whole(self, pair: Path) -> None:
        rows = read_results(pair / "evaluated" / "results.jsonl")
        assert {row.step for row in rows} == {2, 4}
        name = pair / "evaluated" / "checkpoints" / "step=000002.ckpt"
        judged = json.loads(next((pair / "evaluated" / "state").glob("step=000002-*/*.json")).read_text())["weights"]
        assert judged == fingerprint(load_model(ModelConfig("tiny", checkpoint=str(name))).image)
        assert difference(weights(pair / "evaluated"), weights(pair / "finetune-fsdp2")) < TOLERANCE


def assert_same_bits(whole: Path, resumed: Path) -> None:
    assert difference(weights(whole), weights(resumed)) == 0
    assert (whole / "metrics.csv").read_text() == (resumed / "metrics.csv").read_text()


@pytest.mark.parametrize(("batch", "micro"), [(16, 1), (4, 4), (8, 2)])
def test_accumulated_batches_are_one_large_batch(batch: int, micro: int, alone: Any) -> None:
    same_stream = (f"data.batch_size={batch}", f"trainer.accumulate={micro}")
    parts, whole = alone("finetune", *same_stream), alone("finetune")
    assert difference(weights(parts), weights(whole)) < TOLERANCE
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)


def test_one_device_needs_no_strategy_and_several_take_ddp() -> None:
    assert strategy_of(TrainerConfig(accelerator="cpu", devices=1), "finetune") == "auto"
    assert strategy_of(TrainerConfig(accelerator="cpu", devices="auto"), "pretrain") == "auto"
    for devices, nodes in ((2, 1), ("2", 1), ("0,1", 1), (1, 2)):
        config = TrainerConfig(accelerator="cpu", devices=devices, num_nodes=nodes)
        assert isinstance(strategy_of(config, "prior"), DDPStrategy)


def test_each_word_has_its_strategy() -> None:
    assert isinstance(strategy_of(TrainerConfig(strategy="ddp"), "finetune"), DDPStrategy)
    assert isinstance(strategy_of(TrainerConfig(strategy="fsdp2"), "finetune"), WholeFSDP2)


@NEEDS_DEEPSPEED
@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.filterwarnings("ignore")
def test_zero_has_its_stage(stage: int) -> None:
    strategy: Any = strategy_of(TrainerConfig(strategy=f"zero{stage}"), "prior")
    assert strategy.config["zero_optimization"]["stage"] == stage


@pytest.mark.parametrize(
    ("kind", "settings", "line"),
    [
        ("finetune", {"strategy": "zero3"}, "shards the weights under the attack and gives no gradient of pixels"),
        ("finetune", {"strategy": "fsdp"}, "allows one forward pass a step; use fsdp2 or zero2"),
        ("prior", {"strategy": "telepathy"}, "unknown; choose one of: auto, ddp, fsdp2, zero1, zero2, zero3"),
        ("pretrain", {"strategy": "zero1"}, "pretrain cannot be trained so; use one of: auto, ddp"),
        ("finetune", {"strategy": "fsdp2", "precision": "16-mixed"}, "does not go with fsdp2; use bf16-mixed"),
        ("finetune", {"strategy": "fsdp2", "compile": True}, "trainer.compile: not together with fsdp2"),
        ("prior", {"checkpointing": True}, "trainer.checkpointing: prior has no such switch"),
    ],
)
def test_what_does_not_go_together_is_told_in_a_line(kind: str, settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line) as caught:
        strategy_of(TrainerConfig(**settings), kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["zero3", "fsdp", "deepspeed_stage_3"])
def test_a_recipe_is_refused_before_anything_is_loaded(strategy: str) -> None:
    with pytest.raises(ConfigError, match=f"trainer.strategy: '{strategy}'.* shards the weights under the attack"):
        load_config("finetune", "fare_tiny_eps4", [f"trainer.strategy={strategy}"])
