"""The number of draws grows with the noise in a gradient, and stops when it stands still."""

from __future__ import annotations

import torch
from torch import Tensor

from eval.eot import FLAT, MOST, grow_draws
from modules import noise
from tests.modules.toys import ConvEncoder, classifier, images

MODEL = classifier(ConvEncoder())
X = images(8)
Y = torch.arange(8) % 6


def noisy(size: float) -> object:
    """The model behind a slope of its own in every draw, ``size`` times as large as an image's pixels."""

    def answer(x: Tensor) -> Tensor:
        slopes = size * noise.normal(x, "slope", (6, x[0].numel()))
        return MODEL(x) + torch.einsum("bkp,bp->bk", slopes, x.flatten(1))

    return answer


def test_one_draw_is_enough_where_nothing_is_random() -> None:
    grown = grow_draws(MODEL, X, Y)
    assert grown.draws == 1 and abs(grown.cosines[1] - 1) < 1e-5


def test_more_noise_needs_more_draws() -> None:
    little, much = (grow_draws(noisy(size), X, Y).draws for size in (0.02, 0.5))  # pyright: ignore[reportArgumentType]
    assert little < much <= MOST


def test_it_stops_at_the_first_number_that_is_flat_and_says_so() -> None:
    grown = grow_draws(noisy(0.1), X, Y)  # pyright: ignore[reportArgumentType]
    *before, last = grown.cosines.values()
    assert all(value < FLAT for value in before)
    assert last >= FLAT or grown.draws == MOST
    assert f"over {grown.draws} draws" in grown.note("E", "noisy")["text"]


def test_noise_that_no_average_tames_is_admitted() -> None:
    grown = grow_draws(noisy(100.0), X, Y, most=4)  # pyright: ignore[reportArgumentType]
    assert grown.draws == 4 and list(grown.cosines) == [1, 2, 4]
    assert "never stood still" in grown.note("E", "noisy")["text"]


def test_the_estimates_are_of_independent_draws() -> None:
    """Averages of k draws of pure noise have a cosine of about zero, however many are averaged."""
    grown = grow_draws(noisy(1e6), X, Y, most=8)  # pyright: ignore[reportArgumentType]
    assert max(abs(value) for value in grown.cosines.values()) < 0.2
