"""Doubts from gradients and short attacks: each threshold from both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from eval.card import Doubt, Health
from eval.checks import gradients, points
from eval.checks.probed import Probed
from modules.defenses.anti_adversary import AntiAdversary
from modules.defenses.base import Defense, Undefended, View
from modules.defenses.ttc import TTC
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat
from tests.eval import gallery
from tests.eval.test_checks_answers import HEALTHY, Logits, Pixels, honest, probed, summary
from tests.eval.toy_world import THREAT, Reader, toy_judge, toy_task

RED, AMBER = "red", "amber"


def said(health: Health, make: Callable[[ImageEncoder], Defense] = honest) -> list[tuple[str, str]]:
    return summary(gradients.health_doubts(probed(make), [health]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"not_finite": 0.01}, [("infinite_gradient", RED)]),
        ({"dead": 1.0, "zeros": 1.0, "norm_ratio": 0.0}, [("no_gradient", RED)]),
        ({"dead": 0.5}, [("zero_gradient", RED)]),
        ({"dead": 0.06}, [("zero_gradient", AMBER)]),
        ({"norm_ratio": 9e-4}, [("tiny_gradient", RED)]),
        ({"norm_ratio": 2e-3}, []),
        ({"norm_ratio": 5e2}, []),
        ({"norm_ratio": 2e3}, [("exploding_gradient", AMBER)]),
        ({"zeros": 0.6}, [("sparse_gradient", AMBER)]),
        ({"zeros": 0.4}, []),
        ({"difference_error": 0.6}, [("wrong_gradient", RED)]),
        ({"difference_error": 0.4}, []),
        ({"cosine_bare": -0.5}, [("reversed_gradient", RED)]),
        ({"cosine_bare": -0.2}, []),
        ({"cosine_bare": 0.01, "cosine_bpda": 0.01}, [("sideways_gradient", AMBER)]),
        ({"cosine_bare": 0.01, "cosine_bpda": 0.5}, []),
        ({"view": "eot", "dead": 1.0}, [("no_gradient", RED)]),
        ({"view": "released", "dead": 1.0}, [("no_gradient", AMBER)]),
        ({"view": "bpda", "difference_error": 2.0, "cosine_bare": -1.0, "norm_ratio": 1e9}, []),
    ],
)
def test_health_is_doubted_beyond_its_thresholds(change: dict[str, float], expected: list[tuple[str, str]]) -> None:
    assert said(replace(HEALTHY, **change)) == expected


def test_who_says_that_a_stand_in_is_needed_is_doubted_less() -> None:
    class Declares(Undefended):
        def smoothed(self) -> ImageEncoder:
            return self.encoder

    wrong = replace(HEALTHY, difference_error=1.0)
    assert said(wrong, Declares) == [("wrong_gradient", AMBER)]
    assert said(wrong, Undefended) == [("wrong_gradient", RED)]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Undefended, []),
        (honest, []),
        (gallery.HalfPrecision, ["underflow"]),
        (gallery.Saturated, ["saturated_logits"]),
        (gallery.GradientWatcher, ["watches_gradients"]),
        (lambda e: Logits(e, lambda z: z.double().mul(1e-9).float()), []),  # small, in single precision
        (lambda e: Logits(e, lambda z: z.half().float()), []),  # half precision, of the usual size
        (lambda e: Logits(e, lambda z: 1e-9 * z.half().float()), []),  # half precision that attackers scale
        (lambda e: Logits(e, lambda z: 5 * z), []),
    ],
)
def test_gradients_that_arithmetic_loses_are_found(
    make: Callable[[ImageEncoder], Defense], expected: list[str]
) -> None:
    assert [doubt.name for doubt in gradients.gradient_doubts(probed(make))] == expected


def test_a_part_of_the_gradient_that_underflows_is_enough() -> None:
    whole = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    part = torch.where(whole.abs() < 0.3, 0.0, whole)  # of a quarter of the pixels
    assert summary(gradients.underflow_doubts(part, whole)) == [("underflow", RED)]
    assert gradients.underflow_doubts(whole, whole) == []
    assert gradients.underflow_doubts(whole * torch.nan, whole) == []


@pytest.mark.parametrize(
    ("norm", "eps", "moved", "out"),
    [
        ("linf", 0.1, 0.1, False),
        ("linf", 0.1, 0.1001, True),
        ("linf", 0.1, 0.0, False),
        ("l2", 1.0, 1.0 / 192**0.5, False),
        ("l2", 1.0, 1.01 / 192**0.5, True),
        ("l1", 19.2, 0.1, False),
        ("l1", 19.2, 0.101, True),
    ],
)
def test_points_are_measured_anew(norm: str, eps: float, moved: float, out: bool) -> None:
    x = torch.full((3, 3, 8, 8), 0.4)
    threat = Threat(norm, eps)  # pyright: ignore[reportArgumentType]
    x_adv = x.clone()
    x_adv[1] += moved
    assert summary(points.outside_doubts(threat, x, x_adv)) == [("outside_threat", RED)] * out


@pytest.mark.parametrize("value", [-1e-4, 1.0001, torch.nan])
def test_points_outside_the_box_are_found(value: float) -> None:
    x = torch.full((2, 3, 8, 8), 0.5)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] = value
    assert summary(points.outside_doubts(Threat("linf", 1.0), x, x_adv)) == [("outside_threat", RED)]


def fragile(count: int = 16, *, steps: float = 0.2) -> tuple[Probed, Tensor]:
    """A defence that only pixels off the 8-bit grid fool, and such pixels."""

    def off_grid(x: Tensor) -> Tensor:
        off = ((255 * x) - (255 * x).round()).abs().amax(dim=(1, 2, 3), keepdim=True) > 0.05
        return torch.where(off, 1 - x, x)

    seen = probed(lambda encoder: Pixels(encoder, off_grid), count)
    return seen, seen.batch.x + steps / 255


def test_images_that_fool_only_before_they_are_stored_are_counted() -> None:
    seen, x_adv = fragile()
    assert summary(points.rounding_doubts(seen, x_adv)) == [("lost_to_rounding", AMBER)]
    few, x_few = fragile(3)
    assert points.rounding_doubts(few, x_few) == []  # too few to speak of a share


def test_images_that_fool_for_good_survive_rounding() -> None:
    encoder = Reader("whisper")
    judge, batch = toy_judge(encoder, Undefended(encoder))
    seen = Probed(judge, "planted", batch.select(slice(0, 16)))
    x_adv = points.short_attack(seen)
    assert (seen.logits(x_adv).argmax(dim=1) != seen.batch.y).all()
    assert points.rounding_doubts(seen, x_adv) == []
    assert points.outside_doubts(THREAT, seen.batch.x, x_adv) == []


class Claims(Defense):
    """Has a smooth copy, and something that it says may be differentiated in its stead."""

    def __init__(
        self, encoder: ImageEncoder, exact: ImageEncoder | None = None, smooth: ImageEncoder | None = None
    ) -> None:
        super().__init__(encoder)
        self.exact, self.smooth = exact, smooth

    def differentiable(self) -> ImageEncoder:
        return self.exact or self

    def smoothed(self) -> ImageEncoder | None:
        return self.smooth


def test_stand_ins_are_compared_with_what_they_stand_for() -> None:
    def doubts(make: Callable[[ImageEncoder], Defense]) -> list[Doubt]:
        seen = probed(make, 16)
        return points.stand_in_doubts(seen, seen.batch.x)

    def flipped(encoder: ImageEncoder) -> ImageEncoder:
        return Pixels(encoder, lambda x: 1 - x)

    assert doubts(Claims) == []
    assert doubts(lambda e: Claims(e, exact=Undefended(e))) == []
    assert summary(doubts(lambda e: Claims(e, exact=flipped(e)))) == [("stand_in", RED)]
    assert doubts(lambda e: Claims(e, smooth=Pixels(e, lambda x: 0.99 * x))) == []
    assert summary(doubts(lambda e: Claims(e, smooth=flipped(e)))) == [("stand_in_differs", AMBER)]


@pytest.mark.parametrize("declared", [False, True])
def test_a_gradient_that_hides_the_way_is_found_from_a_cold_start(declared: bool) -> None:
    encoder = Reader("whisper")
    judge, batch = toy_judge(encoder, Claims(encoder, smooth=encoder if declared else None))
    seen = Probed(judge, "planted", batch.select(slice(0, 16)))
    x, fooling = seen.batch.x, points.short_attack(seen)

    def doubts(own: Tensor, blunt: Tensor) -> list[tuple[str, str]]:
        return summary(points.masked_doubts(seen, {View.adaptive: own, View.bpda: blunt}))

    some = torch.cat([fooling[:5], x[5:]])
    assert doubts(x, fooling) == [("masked_gradient", AMBER if declared else RED)]
    assert doubts(x, some) == [("masked_gradient", AMBER)]
    assert doubts(fooling, fooling) == doubts(fooling, x) == doubts(x, x) == []
    assert doubts(x, torch.cat([fooling[:3], x[3:]])) == []


def test_a_gradient_that_gains_no_more_than_noise_is_useless() -> None:
    def elsewhere(logits: Tensor) -> Tensor:
        """Its values, the slope of their opposite."""
        other = -1e-4 * logits
        return logits.detach() + other - other.detach()

    for make, expected in (
        (lambda encoder: Logits(encoder, elsewhere), [("useless_gradient", RED)]),
        (Undefended, []),
        (honest, []),
    ):
        seen = probed(make).few
        assert summary(points.useless_doubts(seen, View.adaptive, points.short_attack(seen))) == expected


def test_answers_that_switch_on_the_way_are_told_from_those_that_only_bend() -> None:
    def switches(logits: Tensor) -> Tensor:
        return torch.where(logits.topk(2, dim=1).values.diff(dim=1).abs() < 1.0, logits.flip(1), logits)

    def bends(logits: Tensor) -> Tensor:
        return logits.clamp(max=0.1)

    for change, found in ((switches, [("jumps", AMBER)]), (bends, [])):
        seen = probed(lambda encoder, change=change: Logits(encoder, change)).few
        x_adv = seen.batch.x.roll(1, 0)  # the way to an image of another class
        assert summary(points.jump_doubts(seen, x_adv)) == found
    for make in (Undefended, honest):
        seen = probed(make).few
        assert points.jump_doubts(seen, points.short_attack(seen)) == []


def test_saturation_is_red_only_where_no_attack_heeds_another_loss() -> None:
    plain, entropy = torch.ones(4, 3, 2, 2), torch.zeros(4, 3, 2, 2)
    assert summary(gradients.saturation_doubts(plain, entropy, False)) == [("saturated_logits", RED)]
    assert summary(gradients.saturation_doubts(plain, entropy, True)) == [("saturated_logits", AMBER)]
    assert gradients.saturation_doubts(plain, plain, False) == []


def test_another_model_under_inference_mode_is_found() -> None:
    class Watches(Undefended):
        def encode_image(self, x: Tensor) -> Tensor:
            return self.encoder.encode_image(x.flip(-1) if torch.is_inference_mode_enabled() else x)

    assert summary(gradients.watching_doubts(probed(Watches).few)) == [("watches_gradients", RED)]
    for make in (Undefended, honest):
        assert gradients.watching_doubts(probed(make).few) == []


def test_a_defense_that_takes_gradients_is_the_same_under_inference_mode() -> None:
    encoder = Reader("whisper").freeze()
    x = probed(honest).batch.x
    for defense in (TTC(encoder), AntiAdversary(encoder, toy_task(encoder).head)):
        with torch.no_grad():
            expected = defense.encode_image(x)
        with torch.inference_mode():
            found = defense.encode_image(x.clone())
        torch.testing.assert_close(found, expected)
        assert not torch.equal(expected, encoder.encode_image(x))
