"""Adversarial fine-tuning: the inner attack, the outer step, and what a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.attacks.base import Attack
from modules.attacks.pgd import PGD
from modules.encoders.base import ImageEncoder
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.optim import OptimizerSettings
from modules.objectives import FARE, Objective, TeCoA
from modules.perturb.losses import Loss
from modules.perturb.threat import Norm, Threat
from tests.modules.toys import ConvEncoder, LinearEncoder, head, images

SETTINGS = OptimizerSettings(lr=0.1, warmup_steps=0, max_steps=4)


@dataclass
class Pictures:
    x: Tensor = field(default_factory=lambda: images(6))
    y: Tensor = field(default_factory=lambda: torch.arange(6))
    key: tuple[str, ...] = tuple("abcdef")

    def part(self, *rows: int) -> Pictures:
        index = list(rows)
        return Pictures(self.x[index], self.y[index], tuple(self.key[i] for i in index))


def training(
    objective: Objective | None = None,
    attack: Attack | None = None,
    encoder: ImageEncoder | None = None,
    reference: ImageEncoder | None = None,
    **settings: Any,
) -> AdversarialFineTuning:
    module = AdversarialFineTuning(
        (encoder or ConvEncoder()).train(),
        reference or ConvEncoder(),
        objective or FARE(),
        attack or PGD(Threat(), steps=3, step_size=0.01, keep="last"),
        settings=SETTINGS,
        **settings,
    )
    module.log = lambda *args, **kwargs: None
    return module


def test_fares_step_is_the_one_on_paper() -> None:
    """One gradient step inside and one outside, for f(x) = W x, f0(x) = W0 x, written out by hand."""
    encoder, original = LinearEncoder(seed=1), LinearEncoder(seed=0)
    weight, target = encoder.weight.detach().double(), original.weight.detach().double()
    threat, step = Threat(eps=0.1), 0.03
    batch = replace(Pictures(), x=0.3 + 0.4 * images(6, size=4))  # the box is out of reach
    start = PGD(threat, steps=0, keep="last")  # the start alone
    module = training(attack=PGD(threat, steps=1, step_size=step, keep="last"), encoder=encoder, reference=original)
    at_start = training(attack=start, encoder=encoder, reference=original).perturb(batch, 5)

    x, begin = batch.x.flatten(1).double(), at_start.flatten(1).double()
    inner_gradient = 2 * (begin @ weight.T - x @ target.T) @ weight
    delta = (begin + step * inner_gradient.sign() - x).clamp(-0.1, 0.1)
    x_adv = module.perturb(batch, 5)
    torch.testing.assert_close(x_adv.flatten(1).double(), x + delta, atol=1e-6, rtol=0)

    residual = x_adv.flatten(1).double() @ weight.T - x @ target.T
    loss = module.objective.outer(module.encoder, module.reference, batch, x_adv).mean()
    assert float(loss.detach()) == pytest.approx(float((residual**2).sum(dim=1).mean()), rel=1e-5)
    loss.backward()
    assert encoder.weight.grad is not None
    by_hand = 2 * residual.T @ x_adv.flatten(1).double() / len(x)
    torch.testing.assert_close(encoder.weight.grad.double(), by_hand, rtol=1e-4, atol=1e-5)
    assert original.weight.grad is None


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("keep", ["last", "best"])
def test_perturbed_images_stay_in_ball_and_box(norm: Norm, keep: Any) -> None:
    threat = Threat(norm, 0.2)
    batch = Pictures(x=images(6).round())  # black and white: the box cuts half of the ball
    x_adv = training(attack=PGD(threat, steps=3, step_size=0.1, keep=keep)).perturb(batch, 0)
    assert threat.contains(batch.x, x_adv).all()
    assert (threat.distance(batch.x, x_adv) > 0.01).all()
    assert not x_adv.requires_grad


def test_a_step_can_be_replayed_alone_and_on_any_part_of_the_batch() -> None:
    """In float64, where the batch size leaves no trace."""
    double = Pictures(x=images(6).double())
    module = training(encoder=ConvEncoder().double(), reference=ConvEncoder(seed=1).double())
    whole = module.perturb(double, 7)
    assert torch.equal(whole, module.perturb(double, 7))
    torch.testing.assert_close(whole[[4, 1]], module.perturb(double.part(4, 1), 7), atol=1e-9, rtol=0)
    assert not torch.equal(whole, module.perturb(double, 8))
    module.seed = 1
    assert not torch.equal(whole, module.perturb(double, 7))


def test_a_step_is_replayed_from_a_checkpoint() -> None:
    module = training(encoder=ConvEncoder(seed=3))
    before = module.perturb(Pictures(), 2)
    other = training(encoder=ConvEncoder(seed=4))
    assert not torch.equal(before, other.perturb(Pictures(), 2))
    other.load_state_dict(module.state_dict())
    assert torch.equal(before, other.perturb(Pictures(), 2))


def test_no_global_generator_is_read_or_moved() -> None:
    state = torch.get_rng_state()
    first = training().perturb(Pictures(), 0)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(123)
    assert torch.equal(first, training().perturb(Pictures(), 0))


def test_without_a_radius_fare_starts_at_loss_zero() -> None:
    module = training(attack=PGD(Threat(eps=0.0), steps=3, keep="last"))
    batch = Pictures()
    assert torch.equal(module.perturb(batch, 0), batch.x)
    assert float(module.training_step(batch, 0).detach()) == pytest.approx(0.0, abs=1e-9)


class Watching(ConvEncoder):
    """Notes, at every look, whether it is in training mode and its weights want gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[tuple[bool, bool]] = []

    def encode_image(self, x: Tensor) -> Tensor:
        self.looks.append((self.training and self.body.training, any(p.requires_grad for p in self.parameters())))
        return super().encode_image(x)


def test_the_attack_meets_a_frozen_encoder_and_the_outer_step_a_training_one() -> None:
    encoder = Watching()
    training(encoder=encoder).training_step(Pictures(), 0).backward()
    *inner, outer = encoder.looks
    assert inner == [(False, False)] * 3
    assert outer == (True, True)
    assert encoder.training
    assert all(p.requires_grad and p.grad is not None for p in encoder.parameters())


class Stumbling(PGD):
    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        raise RuntimeError("stumbled")


def test_an_attack_that_fails_leaves_the_encoder_in_training() -> None:
    module = training(attack=Stumbling(Threat()))
    with pytest.raises(RuntimeError, match="stumbled"):
        module.training_step(Pictures(), 0)
    assert module.encoder.training
    assert all(p.requires_grad for p in module.encoder.parameters())


def test_the_original_encoder_is_frozen_and_in_no_checkpoint() -> None:
    original = ConvEncoder(seed=9)
    before = {name: value.clone() for name, value in original.state_dict().items()}
    module = training(reference=original, identity={"objective": "fare"})
    assert {name.partition(".")[0] for name in module.state_dict()} == {"encoder"}
    assert len(list(module.parameters())) == len(list(module.encoder.parameters()))
    optimizer = module.configure_optimizers()["optimizer"]
    for _ in range(2):
        optimizer.zero_grad()
        module.training_step(Pictures(), 0).backward()
        optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in original.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in original.parameters())
    assert not original.training
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint == {"robustclip": {"kind": "encoder", "objective": "fare"}}


def test_training_lowers_the_loss() -> None:
    module = training(attack=PGD(Threat(eps=0.1), steps=3, step_size=0.05, keep="last"))
    optimizer = torch.optim.Adam(module.encoder.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = module.training_step(Pictures(), 0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_tecoa_ascends_and_descends_the_cross_entropy_of_the_label() -> None:
    own = head(16)
    module = training(TeCoA(own), PGD(Threat(eps=0.1), steps=5, step_size=0.05, random_start=False))
    batch = Pictures()

    def loss(x: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(own(module.encoder(x)), batch.y)

    x_adv = module.perturb(batch, 0)
    assert loss(x_adv) > loss(batch.x) + 0.01
    assert float(module.training_step(batch, 0).detach()) == pytest.approx(float(loss(x_adv).detach()), rel=1e-5)


def test_fare_without_a_random_start_is_refused() -> None:
    with pytest.raises(ValueError, match=r"FARE's gradient is exactly zero .*; set attack\.random_start=true"):
        training(attack=PGD(Threat(), random_start=False))


def test_fares_gradient_at_the_image_is_exactly_zero() -> None:
    """The reason for the refusal."""
    module, batch = training(), Pictures()
    module.encoder.eval()
    x = batch.x.clone().requires_grad_()
    module.objective.inner(module.encoder, module.reference, batch)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() == 0


def test_the_validation_looks_at_clean_images_and_changes_nothing() -> None:
    module: Any = training(encoder=ConvEncoder(seed=5))
    logged: dict[str, float] = {}
    module.log = lambda name, value, **kwargs: logged.update({name: float(value)})
    module.validation_step(Pictures(), 0)
    with torch.no_grad():
        z, z0 = ConvEncoder(seed=5)(Pictures().x), ConvEncoder()(Pictures().x)
    assert logged == {"val/cosine": pytest.approx(float(torch.cosine_similarity(z, z0).mean()), abs=1e-6)}
    assert module.encoder.training


def test_an_attack_leaves_no_gradient_on_the_weights_and_wants_them_again_afterwards() -> None:
    module = training()
    module.perturb(Pictures(), 0)
    assert all(p.grad is None and p.requires_grad for p in module.encoder.parameters())
    module.training_step(Pictures(), 0).backward()
    before = {name: p.grad.clone() for name, p in module.encoder.named_parameters() if p.grad is not None}
    module.perturb(Pictures(), 1)
    after = {name: p.grad for name, p in module.encoder.named_parameters() if p.grad is not None}
    assert before and before.keys() == after.keys()
    assert all(torch.equal(after[name], grad) for name, grad in before.items())


@pytest.mark.parametrize("objective", ["fare", "tecoa"])
def test_the_loss_is_whole_under_autocast(objective: str) -> None:
    module = training(FARE() if objective == "fare" else TeCoA(head(ConvEncoder().embedding_dim)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        batch = Pictures()
        assert module.encoder.encode_image(batch.x).dtype == torch.bfloat16, "autocast does nothing here"
        x_adv = module.perturb(batch, 0)
        assert x_adv.dtype == torch.float32
        assert module.objective.outer(module.encoder, module.reference, batch, x_adv).dtype == torch.float32
        assert module.training_step(batch, 0).dtype == torch.float32


@pytest.mark.parametrize("objective", ["fare", "tecoa"])
def test_a_step_in_float16_meets_the_attack_of_single_precision(objective: str) -> None:
    """The classes are those that the encoder is sure of, where the gradients of pixels are far below float16."""
    x, classify = images(12, 32), head(16, scale=100.0)
    batch = Pictures(x, classify(ConvEncoder(size=32).encode_image(x)).argmax(dim=1), tuple("abcdefghijkl"))
    chosen = FARE() if objective == "fare" else TeCoA(classify)
    attack, encoder = PGD(Threat(eps=8 / 255), steps=5, step_size=4 / 255), ConvEncoder(size=32)
    module = training(chosen, attack, encoder, reference=ConvEncoder(size=32))
    single = module.perturb(batch, 0)
    with torch.autocast("cpu", dtype=torch.float16):
        half = module.perturb(batch, 0)
    clean, one, other = (module.objective.outer(module.encoder, module.reference, batch, v) for v in (x, single, half))
    assert (one > clean).all() and (other > clean).all()
    torch.testing.assert_close(other, one, rtol=0.05, atol=1e-3)
