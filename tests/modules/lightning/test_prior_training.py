from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from modules import noise
from modules.lightning.optim import OptimizerSettings
from modules.lightning.prior_training import PriorTraining, pl
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*`isinstance\\(treespec, LeafSpec\\)` is deprecated"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
]


@dataclass(frozen=True)
class Pairs:
    image: Tensor
    text: Tensor
    tokens: Tensor | None
    key: tuple[str, ...]

    def to(self, device: torch.device, **_: Any) -> Pairs:
        return self  # all tests run on the CPU


def _batches(count: int = 8, size: int = 3) -> list[Pairs]:
    generator = torch.Generator().manual_seed(7)
    return [
        Pairs(
            torch.randn(size, 16, generator=generator),
            torch.randn(size, 16, generator=generator),
            torch.randn(size, 2, 16, generator=generator),
            tuple(f"{i}/{j}" for j in range(size)),
        )
        for i in range(count)
    ]


def _loader(batches: list[Pairs]) -> DataLoader[Pairs]:
    return DataLoader(batches, batch_size=None)  # pyright: ignore[reportArgumentType]


def _module(**settings: Any) -> PriorTraining:
    torch.manual_seed(0)
    network = PriorNetwork(dim=16, depth=1, heads=2, dim_head=8, max_text_len=3, num_timesteps=20)
    prior = DiffusionPrior(network, NoiseSchedule(timesteps=20))
    optimizer = OptimizerSettings(lr=1e-2, warmup_steps=2, max_steps=40)
    return PriorTraining(prior, settings=optimizer, sample_steps=5, **settings)


def _trainer(max_steps: int, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


class _Weights(pl.Callback):
    """Keeps the trained weights after every batch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, PriorTraining)
        self.seen.append(copy.deepcopy(dict(pl_module.prior.named_parameters())))


def test_the_average_equals_a_computation_by_hand() -> None:
    module, weights = _module(ema_beta=0.7, ema_every=2, ema_after=3), _Weights()
    start = copy.deepcopy(dict(module.ema_prior.named_parameters()))
    _trainer(8, callbacks=[weights]).fit(module, _loader(_batches()))
    for name, average in module.ema_prior.named_parameters():
        after = {step + 1: seen[name] for step, seen in enumerate(weights.seen)}
        expected = after[2]  # a copy at 2, averages at 4, 6 and 8, nothing in between
        for step in (4, 6, 8):
            expected = 0.7 * expected + 0.3 * after[step]
        torch.testing.assert_close(average, expected, rtol=1e-6, atol=1e-7)
        assert not average.requires_grad
    assert not torch.allclose(start["net.learned_query"], module.ema_prior.net.learned_query)


def test_accumulated_batches_update_the_average_once_per_optimizer_step() -> None:
    module, weights = _module(ema_beta=0.5, ema_every=1, ema_after=0), _Weights()
    _trainer(4, accumulate_grad_batches=2, callbacks=[weights]).fit(module, _loader(_batches()))
    torch.manual_seed(0)
    expected = dict(_module().ema_prior.named_parameters())["net.learned_query"].detach()
    for seen in weights.seen[1::2]:
        expected = 0.5 * expected + 0.5 * seen["net.learned_query"]
    torch.testing.assert_close(module.ema_prior.net.learned_query.detach(), expected)


def test_the_average_stays_out_of_the_optimizer() -> None:
    module = _module()
    parameters = module.configure_optimizers()["optimizer"].param_groups[0]["params"]
    trained = {id(p) for p in module.prior.parameters() if p.requires_grad}
    assert {id(p) for p in parameters} == trained


def test_a_prior_handed_in_evaluation_mode_is_trained_in_training_mode() -> None:
    prior = _module().prior.eval()
    module = PriorTraining(prior, settings=OptimizerSettings())
    assert all(child.training for child in module.modules())


def test_the_training_loss_is_named_by_samples_seed_and_step() -> None:
    module, (batch, *_) = _module(seed=4), _batches()
    logged: dict[str, Tensor] = {}
    module.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    got = module.training_step(batch, 0)
    with noise.samples(noise.keys_of(batch.key), seed=4, draw=0):
        expected = module.prior.loss_per_sample(batch.image, batch.text, batch.tokens).mean()
    assert torch.equal(got, expected) and torch.equal(logged["train/loss"], expected)


def test_training_lowers_the_loss_and_is_the_same_every_time() -> None:
    def losses() -> Iterator[float]:
        module, batches = _module(), _batches(2)
        for steps in (0, 40):
            if steps:
                _trainer(steps, gradient_clip_val=0.5).fit(module, _loader(batches))
            with noise.samples(noise.keys_of(batches[0].key), seed=9):
                yield module.prior.loss_per_sample(batches[0].image, batches[0].text).mean().item()

    before, after = losses()
    assert after < 0.8 * before
    torch.manual_seed(5)
    assert list(losses()) == [before, after]


def test_validation_measures_what_the_average_predicts() -> None:
    module, batches = _module(seed=3), _batches(2)
    with torch.no_grad():
        module.ema_prior.net.learned_query.add_(1.0)  # so that the average is not the prior
    (got,) = _trainer(1).validate(module, _loader(batches), verbose=False)
    rows: dict[str, list[float]] = {name: [] for name in got}
    for batch in batches:
        with noise.samples(noise.keys_of(batch.key), seed=3):
            predicted = module.ema_prior.sample(batch.text, batch.tokens, steps=5, stream="val/sample")
            losses = module.ema_prior.loss_per_sample(batch.image, batch.text, batch.tokens, stream="val")
        rows["val/loss"].append(losses.mean().item())
        others = {
            "val/similarity_image": (predicted, batch.image),
            "val/similarity_text": (predicted, batch.text),
            "val/baseline": (batch.image, batch.text),
            "val/similarity_unrelated": (predicted, batch.text[[2, 0, 1]]),
        }
        for name, (a, b) in others.items():
            rows[name].append(F.cosine_similarity(a, b, dim=-1).mean().item())
    assert len(rows) == 5
    assert got == pytest.approx({name: sum(row) / 2 for name, row in rows.items()}, abs=1e-6)


def test_a_checkpoint_opens_without_unpickling_and_says_what_it_is(tmp_path: Path) -> None:
    module, trainer = _module(), _trainer(3)
    trainer.fit(module, _loader(_batches()))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert checkpoint["robustclip"]["kind"] == "prior"
    prior = DiffusionPrior.from_config(checkpoint["robustclip"]["config"])
    weights = {
        name.removeprefix("ema_prior."): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith("ema_prior.")
    }
    prior.load_state_dict(weights)
    assert torch.equal(prior.net.learned_query, module.ema_prior.net.learned_query)


class _SaveAt(pl.Callback):
    """Saves where ModelCheckpoint does: before the module's own hook of the same name."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_a_resumed_run_ends_bit_for_bit_where_an_unbroken_one_does(tmp_path: Path) -> None:
    batches, half = _batches(6), tmp_path / "half.ckpt"
    ema: dict[str, Any] = {"ema_beta": 0.9, "ema_every": 2, "ema_after": 2}
    whole = _module(**ema)
    _trainer(12, callbacks=[_SaveAt(6, half)]).fit(whole, _loader(batches))

    resumed = _module(**ema)
    with torch.no_grad():
        for parameter in resumed.parameters():
            parameter.add_(1.0)
    _trainer(12).fit(resumed, _loader(batches), ckpt_path=half, weights_only=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


@pytest.mark.parametrize("wrong", [{"ema_beta": 1.0}, {"ema_every": 0}, {"ema_after": -1}])
def test_impossible_averages_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^ema_(beta|every)="):
        _module(**wrong)
