"""The health of gradients: closed forms, and what each fault does to which number."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from eval.card import Health
from eval.health import IMAGES, measure
from modules import noise
from modules.defenses.base import Defense, Undefended
from modules.defenses.clipure_cos import CLIPureCos
from modules.encoders.base import ImageEncoder
from tests.close import rounding
from tests.eval.toy_world import CLASSES, Reader, toy_judge


def health(make: Callable[[ImageEncoder], Defense]) -> dict[str, Health]:
    encoder = Reader("loud")
    judge, batch = toy_judge(encoder, make(encoder))
    return {seen.view: seen for seen in measure(judge, "planted", batch)}


class Changed(Defense):
    """A defence with a change to the pixels and one to the latents."""

    def __init__(
        self,
        encoder: ImageEncoder,
        pixels: Callable[[Tensor], Tensor] = lambda x: x,
        latent: Callable[[Tensor], Tensor] = lambda z: z,
        scale: float = 1.0,
    ) -> None:
        super().__init__(encoder)
        self.pixels, self.latent, self.scale = pixels, latent, scale

    def purify_pixels(self, x: Tensor) -> Tensor:
        return self.pixels(x)

    def purify_latent(self, z: Tensor) -> Tensor:
        return self.latent(z)

    def logits(self, x: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        return self.scale * head(self.encode_image(x))


def test_the_bare_encoder_is_compared_with_itself() -> None:
    found = health(Undefended)
    assert list(found) == ["adaptive"]
    seen = found["adaptive"]
    assert (seen.zeros, seen.dead, seen.not_finite, seen.cosine_bpda) == (0.0, 0.0, 0.0, None)
    assert seen.norm_ratio == pytest.approx(1.0, abs=rounding()) and seen.cosine_bare == pytest.approx(
        1.0, abs=rounding()
    )
    assert seen.difference_error < 1e-3


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_scale_on_the_logits_changes_nothing(scale: float) -> None:
    seen = health(lambda encoder: Changed(encoder, scale=scale))["adaptive"]
    assert seen.norm_ratio == pytest.approx(1.0, rel=1e-3)
    assert seen.cosine_bare == pytest.approx(1.0, abs=rounding())
    assert seen.cosine_bpda == pytest.approx(1.0, abs=rounding())
    assert seen.difference_error < 1e-3


def test_every_view_that_looks_through_the_defence_is_measured() -> None:
    found = health(lambda encoder: CLIPureCos(encoder, torch.ones(CLASSES), mode="legacy"))
    assert set(found) == {"adaptive", "bpda", "ensemble", "released"}
    assert found["bpda"].cosine_bpda is None
    assert found["adaptive"].dead == 0
    assert found["released"].norm_ratio < 0.5  # what ten constant denominators have left of it


def slope_of(factor: float) -> Callable[[Tensor], Tensor]:
    """The identity with a derivative that is ``factor`` times too long."""
    return lambda x: factor * x + ((1 - factor) * x).detach()


@pytest.mark.parametrize(
    ("factor", "ratio", "cosine", "error"),
    [
        (1.0, 1.0, 1.0, 0.0),
        (0.5, 0.5, 1.0, 0.5),
        (-1.0, 1.0, -1.0, 2.0),
        (3.0, 3.0, 1.0, 2 / 3),
        (1e-4, 1e-4, 1.0, 1.0),
    ],
)
def test_a_wrong_gradient_is_wrong_by_as_much_as_it_is(
    factor: float, ratio: float, cosine: float, error: float
) -> None:
    seen = health(lambda encoder: Changed(encoder, slope_of(factor)))["adaptive"]
    assert seen.norm_ratio == pytest.approx(ratio, rel=1e-3)
    assert seen.cosine_bare == pytest.approx(cosine, abs=1e-3)
    assert seen.difference_error == pytest.approx(error, rel=0.1, abs=1e-3)  # the margin has kinks


def test_a_cut_gradient_is_dead_and_a_hole_in_it_is_not() -> None:
    def hole(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1].detach(), x[:, 1:]], dim=1)

    cut = health(lambda encoder: Changed(encoder, latent=Tensor.detach))
    assert (cut["adaptive"].zeros, cut["adaptive"].dead, cut["adaptive"].norm_ratio) == (1.0, 1.0, 0.0)
    assert cut["adaptive"].cosine_bare == 0.0
    assert cut["bpda"].dead == 0.0
    seen = health(lambda encoder: Changed(encoder, hole))["adaptive"]
    assert seen.zeros == pytest.approx(1 / 3)
    assert seen.dead == 0.0


def test_only_the_images_whose_gradient_is_cut_are_dead() -> None:
    def some(x: Tensor) -> Tensor:
        cut = torch.arange(len(x)) < 3
        return torch.where(cut[:, None, None, None], x.detach(), x)

    assert health(lambda encoder: Changed(encoder, some))["adaptive"].dead == pytest.approx(3 / IMAGES)


def test_a_gradient_that_is_not_finite_is_counted_and_spoils_nothing_else() -> None:
    class Infinite(Changed):
        def purify_pixels(self, x: Tensor) -> Tensor:
            return torch.cat([x[:4] + (x[:4] - x[:4]).sqrt(), x[4:]])

    seen = health(Infinite)["adaptive"]
    assert seen.not_finite == pytest.approx(4 / IMAGES)
    assert seen.norm_ratio == pytest.approx(1.0, rel=1e-3)
    assert seen.cosine_bare == pytest.approx(1.0, abs=rounding())


def test_noise_is_averaged_out_of_the_views_that_average() -> None:
    class Rugged(Changed):
        random = True

        def purify_pixels(self, x: Tensor) -> Tensor:
            return x + (noise.normal(x, "rugged") * x - (noise.normal(x, "rugged") * x).detach())

    found = health(Rugged)
    assert found["eot"].cosine_bare > found["adaptive"].cosine_bare + 0.1  # the recipe averages two draws
    assert found["eot"].norm_ratio < found["adaptive"].norm_ratio
    # of one and the same draw; differences over small distances make much of rounding
    assert found["adaptive"].difference_error == pytest.approx(found["eot"].difference_error, rel=0.01)


def test_nothing_of_the_encoder_is_changed() -> None:
    encoder = Reader("loud")
    judge, batch = toy_judge(encoder, Undefended(encoder))
    encoder.train().requires_grad_(True)
    measure(judge, "planted", batch)
    assert encoder.training and all(p.requires_grad and p.grad is None for p in encoder.parameters())
    assert noise.scope() is None


def test_a_defence_that_fails_is_named() -> None:
    def fails(x: Tensor) -> Tensor:
        raise IndexError("no such page")

    with pytest.raises(ValueError, match="the gradient of planted: IndexError: no such page"):
        health(lambda encoder: Changed(encoder, fails))
