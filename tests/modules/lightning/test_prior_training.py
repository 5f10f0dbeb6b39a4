from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from modules import noise
from modules.lightning.optim import OptimizerSettings
from modules.lightning.prior_training import EMASettings, PriorTraining, pl
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork
from modules.prior.health import health
from modules.prior.pairs import Pairs

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*`isinstance\\(treespec, LeafSpec\\)` is deprecated"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
]


def _batches(count: int = 8, size: int = 3) -> list[Pairs]:
    generator = torch.Generator().manual_seed(7)
    return [
        Pairs(
            F.normalize(torch.randn(size, 16, generator=generator), dim=-1),
            F.normalize(torch.randn(size, 16, generator=generator), dim=-1),
            torch.randn(size, 2, 16, generator=generator),
            tuple(f"{i}/{j}" for j in range(size)),
        )
        for i in range(count)
    ]


def _loader(batches: list[Pairs]) -> DataLoader[Pairs]:
    return DataLoader(batches, batch_size=None)  # pyright: ignore[reportArgumentType]


def _module(
    beta: float = 0.9999, every: int = 10, after: int = 100, dropout: float = 0.0, **given: Any
) -> PriorTraining:
    torch.manual_seed(0)
    network = PriorNetwork(
        dim=16, depth=1, heads=2, dim_head=8, max_text_len=3, num_timesteps=20, attn_dropout=dropout, ff_dropout=dropout
    )
    prior = DiffusionPrior(network, NoiseSchedule(timesteps=20))
    optimizer = OptimizerSettings(lr=1e-2, warmup_steps=2, max_steps=40)
    settings = {"settings": optimizer, "sample_steps": 5, "bins": 4, "ema": EMASettings(beta, every, after), **given}
    return PriorTraining(prior, **settings)


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
    module, weights = _module(beta=0.7, every=2, after=3), _Weights()
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
    module, weights = _module(beta=0.5, every=1, after=0), _Weights()
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


def test_the_training_loss_is_named_by_samples_seed_and_place() -> None:
    module, (batch, *_) = _module(seed=4), _batches()
    logged: dict[str, Tensor] = {}
    module.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    got = module.training_step(batch, 0)
    names = [f"{key}@{place}" for place, key in enumerate(batch.key)]
    with noise.samples(noise.keys_of(names), seed=4):
        expected = module.prior.loss_per_sample(batch.image, batch.text, batch.tokens).mean()
    assert torch.equal(got, expected) and torch.equal(logged["train/loss"], expected)


class _Noise(pl.Callback):
    """Keeps the noise keys of every sample that a loss was asked for."""

    def __init__(self, module: PriorTraining) -> None:
        self.keys: list[int] = []
        original = module.prior.loss_per_sample

        def watching(*args: Any, **kwargs: Any) -> Tensor:
            scope = noise.scope()
            assert scope is not None
            self.keys += scope.keys.tolist()
            return original(*args, **kwargs)

        module.prior.loss_per_sample = watching  # type: ignore[method-assign]


def _joined(batches: list[Pairs], count: int) -> list[Pairs]:
    """The same samples in batches ``count`` times as large."""
    groups = [batches[i : i + count] for i in range(0, len(batches), count)]
    return [
        Pairs(
            torch.cat([b.image for b in group]),
            torch.cat([b.text for b in group]),
            torch.cat([b.tokens for b in group if b.tokens is not None]),
            tuple(key for b in group for key in b.key),
        )
        for group in groups
    ]


def test_accumulated_batches_train_as_one_large_batch_does() -> None:
    """Same samples, same noise, same gradient: only the order of summation differs."""
    # Adam divides by a gradient's own size: a large eps keeps two orders of summation together
    optimizer = OptimizerSettings(lr=1e-2, eps=1e-2, warmup_steps=0, max_steps=2)
    apart, together = (_module(every=1, after=1, beta=0.5, settings=optimizer) for _ in range(2))
    batches = _batches(8)
    seen = [_Noise(apart), _Noise(together)]
    table: list[list[float]] = [[], []]
    for module, found, accumulate, losses in zip(
        (apart, together), (batches, _joined(batches, 4)), (4, 1), table, strict=True
    ):
        callback = _Losses(losses)
        _trainer(2, accumulate_grad_batches=accumulate, gradient_clip_val=0.5, callbacks=[callback]).fit(
            module, _loader(found)
        )
    assert seen[0].keys == seen[1].keys and len(set(seen[0].keys)) == 24
    assert table[0][3::4] == pytest.approx(table[1], rel=1e-6)
    for (name, one), other in zip(apart.state_dict().items(), together.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)


class _Losses(pl.Callback):
    """Keeps the logged loss after every batch."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.losses.append(float(trainer.callback_metrics.get("train/loss", torch.nan)))


def test_a_sample_that_comes_twice_in_a_step_meets_two_noises() -> None:
    module, (batch, *_) = _module(), _batches()
    seen = _Noise(module)
    _trainer(1, accumulate_grad_batches=2).fit(module, _loader([batch, batch]))
    assert len(seen.keys) == 6 == len(set(seen.keys))


def test_gradients_are_clipped_to_the_length_that_is_said() -> None:
    class Lengths(pl.Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            grads = [p.grad for p in pl_module.prior.parameters() if p.grad is not None]
            if grads:
                self.seen.append(float(torch.stack([g.norm() for g in grads]).norm()))

    free, clipped = Lengths(), Lengths()
    _trainer(3, callbacks=[free]).fit(_module(), _loader(_batches()))
    _trainer(3, gradient_clip_val=0.05, callbacks=[clipped]).fit(_module(), _loader(_batches()))
    assert min(free.seen) > 0.05 and max(clipped.seen) <= 0.05 * (1 + 1e-4)


def test_half_precision_trains_and_leaves_the_weights_whole() -> None:
    losses: list[list[float]] = [[], []]
    for precision, kept in zip(("32-true", "bf16-mixed"), losses, strict=True):
        module = _module(every=1, after=0, beta=0.5)
        _trainer(20, precision=precision, callbacks=[_Losses(kept)]).fit(module, _loader(_batches(4)))
        assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert losses[1] == pytest.approx(losses[0], rel=0.15) and losses[1] != losses[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda b: {"image": torch.where(torch.arange(3)[:, None] == 1, torch.nan, b.image)},
            "1 of 3 image embeddings are not finite .samples 0/1.",
        ),
        (lambda b: {"text": 3 * b.text}, "3 of 3 text embeddings are not of unit length .samples 0/0, 0/1, 0/2."),
        (lambda b: {"image": b.image[:, :8]}, "image embeddings are 8 wide but the prior is 16 wide"),
        (
            lambda b: {"tokens": b.tokens.index_fill(0, torch.tensor([2]), torch.inf)},
            "1 of 3 token states are not finite .samples 0/2.",
        ),
    ],
)
def test_garbage_is_never_trained_on(change: Any, told: str) -> None:
    module, (batch, *others) = _module(), _batches()
    before = copy.deepcopy(module.prior.state_dict())
    with pytest.raises(ValueError, match=told) as caught:
        _trainer(3).fit(module, _loader([replace(batch, **change(batch)), *others]))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in module.prior.state_dict().items())


def test_a_loss_that_is_not_finite_stops_the_run_before_the_step() -> None:
    module = _module()
    with torch.no_grad():
        module.prior.net.learned_query.fill_(torch.nan)
    with pytest.raises(ValueError, match="the loss of 3 of 3 samples, such as '0/0', is not finite at step 0; lower"):
        _trainer(3).fit(module, _loader(_batches()))


@pytest.mark.slow
def test_sixteen_pairs_are_learned_by_heart() -> None:
    """The tiny configuration on the CPU: a prior that cannot do this has a fault."""
    torch.manual_seed(0)
    network = PriorNetwork(dim=32, depth=2, heads=4, dim_head=16, max_text_len=4, num_timesteps=50)
    prior = DiffusionPrior(network, NoiseSchedule(timesteps=50), text_drop=0.0, image_drop=0.0)
    image, text = (F.normalize(torch.randn(16, 32), dim=-1) for _ in range(2))
    batch = Pairs(image, text, torch.randn(16, 4, 32), tuple(map(str, range(16))))
    optimizer = OptimizerSettings(lr=3e-3, weight_decay=0.0, warmup_steps=20, max_steps=500)
    module, losses = PriorTraining(prior, settings=optimizer, ema=EMASettings(0.9, 1, 0)), list[float]()
    _trainer(500, gradient_clip_val=0.5, callbacks=[_Losses(losses)]).fit(module, _loader([batch] * 10))
    assert sum(losses[-20:]) / 20 < 0.01
    predicted = module.ema_prior.eval().sample(text, batch.tokens, steps=50)
    assert F.cosine_similarity(predicted, image, dim=-1).min() > 0.98


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
    image, text, tokens, key = (values[:2] for values in vars(batches[1]).values())
    uneven = [batches[0], Pairs(image, text, tokens, key)]
    with torch.no_grad():
        for parameter in module.ema_prior.parameters():  # so that the average is not the prior
            parameter.mul_(0.5)
    (got,) = _trainer(1).validate(module, _loader(uneven), verbose=False)
    rows: dict[str, list[Tensor]] = {}
    for batch in uneven:
        with noise.samples(noise.keys_of(batch.key), seed=3):
            measured = health(module.ema_prior, batch, sample_steps=5, bins=4)
            live = module.prior.loss_per_sample(batch.image, batch.text, batch.tokens, stream="val")
        for name, values in {**measured, "loss_live": live}.items():
            rows.setdefault(f"val/{name}", []).append(values)
    assert got == pytest.approx({name: torch.cat(parts).mean().item() for name, parts in rows.items()}, abs=1e-6)
    assert got["val/loss"] != pytest.approx(got["val/loss_live"], abs=1e-3) and len(got) == 11


def test_validation_leaves_training_as_it_was() -> None:
    """Modes, weights, and whatever is random."""
    module, batches = _module(dropout=0.3), _batches(4)
    before, state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    module.eval().on_validation_epoch_start()
    for batch in batches:
        module.validation_step(batch, 0)
    module.train()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and module.prior.training


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


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_resumed_run_ends_bit_for_bit_where_an_unbroken_one_does(dropout: float, tmp_path: Path) -> None:
    batches, half = _batches(6), tmp_path / "half.ckpt"
    ema: dict[str, Any] = {"beta": 0.9, "every": 2, "after": 2, "dropout": dropout}
    whole = _module(**ema)
    _trainer(12, callbacks=[_SaveAt(6, half)]).fit(whole, _loader(batches))

    resumed = _module(**ema)
    torch.manual_seed(99)
    with torch.no_grad():
        for parameter in resumed.parameters():
            parameter.add_(1.0)
    _trainer(12).fit(resumed, _loader(batches), ckpt_path=half, weights_only=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


@pytest.mark.parametrize("wrong", [{"beta": 1.0}, {"every": 0}, {"after": -1}])
def test_impossible_averages_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^(beta|every)="):
        _module(**wrong)
