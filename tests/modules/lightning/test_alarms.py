from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.encoders.tiny import load_tiny
from modules.lightning.alarms import Probe, alarms, probe
from modules.perturb import Threat
from modules.perturb.losses import Loss, cross_entropy, squared_l2
from modules.perturb.threat import Norm
from tests.modules.toys import ConvEncoder, classifier, images

X = images(12)
BALL = Threat("linf", 0.05)
MODEL = classifier(ConvEncoder()).requires_grad_(False)
WEIGHT = torch.rand(X[0].numel(), generator=torch.Generator().manual_seed(0)) + 0.5


def names(loss: Loss, threat: Threat = BALL) -> set[str]:
    return {alarm.name for alarm in alarms(probe(loss, X, threat))}


def label_loss(model: Callable[[Tensor], Tensor]) -> Loss:
    with torch.no_grad():
        y = model(X).argmax(dim=1)
    return lambda x: cross_entropy(model(x), y)


def embedding_loss(encoder: Callable[[Tensor], Tensor], x: Tensor = X, moved: float = 0.0) -> Loss:
    with torch.no_grad():
        target = encoder(x)
        target = target + moved * target.std() * noise.normal(target, "moved")
    return lambda v: squared_l2(encoder(v), target)


def along(curve: Callable[[Tensor], Tensor]) -> Loss:
    """A loss of how far the image went toward a corner of the ball: t = 1 in that corner, near 0 at random starts."""
    return lambda x: curve((x - X).flatten(1) @ WEIGHT / (BALL.eps * WEIGHT.sum()))


def moat(t: Tensor) -> Tensor:
    """A hill at 0.3, a ditch behind it, and far higher ground at the ball's surface."""
    return torch.where(t < 0.3, t, torch.where(t < 0.6, 0.6 - t, 10 * (t - 0.6)))


def slopes_of_two_heights(t: Tensor) -> Tensor:
    """High on one side of the image and low on the other."""
    return torch.where(t > 0, t, -0.05 * t)


def locks(x: Tensor) -> Tensor:
    """Twenty groups of pixels; each counts only after those before it went all the way, and for more than they did."""
    parts = ((x - X) / BALL.eps).flatten(1)[:, :180].view(len(x), 20, 9).mean(dim=2)
    opened = (parts.detach() > 0.9).cumprod(dim=1).roll(1, dims=1)
    opened[:, 0] = 1
    return (opened * parts * torch.arange(1, 21)).sum(dim=1)


class Rounding(ConvEncoder):
    """Rounds pixels, which has no gradient."""

    def encode_image(self, x: Tensor) -> Tensor:
        return super().encode_image((x * 64).round() / 64)


class Detached(ConvEncoder):
    """Cuts the graph."""

    def encode_image(self, x: Tensor) -> Tensor:
        return super().encode_image(x.detach())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.01), ("linf", 0.1), ("l2", 0.3), ("l2", 1.0)])
def test_an_honest_model_raises_no_alarm(norm: Norm, eps: float, seed: int) -> None:
    model = classifier(ConvEncoder(seed=seed)).requires_grad_(False)
    threat = Threat(norm, eps)
    assert names(label_loss(model), threat) == set()
    assert names(embedding_loss(model.encoder), threat) == set()
    assert names(embedding_loss(model.encoder, moved=0.5), threat) == set()


def test_a_small_clip_raises_no_alarm() -> None:
    encoder = load_tiny().image.freeze()
    coarse = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    x = torch.nn.functional.interpolate(coarse, (encoder.image_size, encoder.image_size), mode="bilinear")
    assert alarms(probe(embedding_loss(encoder, x), x, Threat("linf", 2 / 255))) == []


def test_one_step_that_beats_ten_is_told() -> None:
    assert "one_step_wins" in names(along(moat))
    assert "one_step_wins" not in names(along(lambda t: 10 * t.clamp_min(-0.5)))


def test_a_loss_that_ten_steps_do_not_climb_but_fifty_do_is_told() -> None:
    assert names(locks) == {"ten_steps_fail"}


@pytest.mark.parametrize("encoder", [Rounding, Detached])
def test_gradients_that_are_lost_are_told(encoder: type[ConvEncoder]) -> None:
    model = classifier(encoder()).requires_grad_(False)
    assert {"chance_wins", "zero_gradient", "gradient_too_small"} <= names(label_loss(model))


def test_gradients_lost_in_saturated_logits_are_told() -> None:
    assert "zero_gradient" in names(label_loss(lambda x: 1e6 * MODEL(x)))


def test_a_gradient_that_is_all_but_cut_is_told() -> None:
    def cut(x: Tensor) -> Tensor:
        z = MODEL.encoder(x)
        return z.detach() + 1e-5 * (z - z.detach())

    assert names(label_loss(lambda x: MODEL.head(cut(x)))) == {"gradient_too_small"}


def test_a_start_that_decides_is_told() -> None:
    assert "start_matters" in names(along(slopes_of_two_heights))


def test_a_gradient_that_collapsed_since_an_earlier_probe_is_told() -> None:
    before, now = (probe(label_loss(lambda x, s=s: s * MODEL(x)), X, BALL) for s in (1.0, 1e-4))
    assert [alarm.name for alarm in alarms(now, before)] == ["gradient_collapse"]
    assert alarms(now) == [] and alarms(before, now) == [] and alarms(before, before) == []


def test_a_loss_that_is_not_finite_is_told() -> None:
    found = probe(lambda x: x.flatten(1).sum(dim=1) * torch.inf, X, BALL)
    (alarm,) = alarms(found)
    assert alarm.name == "not_finite" and math.isnan(alarm.value)


def test_an_alarm_says_in_words_what_was_seen() -> None:
    found = Probe(1.0, 1.1, 4.0, 2.0, 5.0, 0.0, 1.0, 1.0, 0.0)
    one_step, fifty = alarms(found)
    assert one_step.value == pytest.approx(3.0) and "3.00 times as far as PGD-10" in one_step.text
    assert fifty.value == pytest.approx(4.0) and "catastrophic overfitting" in fifty.text
    assert [a.value for a in alarms(replace(found, one_step=1.5, ten_steps=1.0))] == [math.inf] * 3
    assert alarms(replace(found, one_step=1.9, fifty_steps=2.1)) == []


def test_the_slope_of_a_linear_loss_is_the_dual_norm_and_foretells_the_whole_rise() -> None:
    x = torch.full_like(X, 0.5)
    linear: Loss = lambda v: v.flatten(1) @ WEIGHT  # noqa: E731
    for threat, dual in ((Threat("linf", 0.1), WEIGHT.sum()), (Threat("l2", 0.3), WEIGHT.norm())):
        found = probe(linear, x, threat)
        assert found.gradient == pytest.approx(float(dual), rel=1e-4)
        assert found.foretold == pytest.approx(found.fifty_steps - found.clean, rel=1e-2)
        assert found.one_step <= found.ten_steps + 1e-3 and found.spread < 1e-3 * found.ten_steps


def test_a_probe_is_the_same_again_and_moves_no_generator() -> None:
    state = torch.random.get_rng_state()
    keys = noise.keys_of([f"{i}" for i in range(len(X))])
    with noise.samples(keys):
        first, second = (probe(label_loss(MODEL), X, BALL) for _ in range(2))
    assert first == second
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("threat", "starts", "told"),
    [(Threat("linf", 0.0), 3, "eps=0.0"), (BALL, 1, "starts=1"), (Threat("l1", 3.0), 3, "not l1")],
)
def test_what_cannot_be_probed_is_refused(threat: Threat, starts: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        probe(label_loss(MODEL), X, threat, starts=starts)
