from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.prior import DiffusionPrior
from modules.prior.likelihood import reference_likelihood, timesteps_between

Tiny = Callable[..., DiffusionPrior]
Pairs = tuple[Tensor, Tensor, Tensor]


def test_the_likelihood_is_the_mean_denoising_error_written_out(tiny: Tiny, pairs: Pairs) -> None:
    image, text, tokens = pairs
    prior, z = tiny(), F.normalize(image, dim=1)
    with noise.samples(noise.keys_of("abcd"), seed=3):
        got = prior.log_likelihood(z, text, tokens, draws=5, t_min=0.2, t_max=0.8, stream="s")
        total = torch.zeros(4, dtype=torch.float64)
        for i in range(5):
            t = (10 + 6 * (i + noise.uniform(z, f"s/{i}/t", ()))).floor().long()
            assert ((t >= 10 + 6 * i) & (t < 16 + 6 * i)).all()  # each part of the range once
            eps = noise.normal(z, f"s/{i}/eps")
            x_t = prior.noise_scheduler.add_noise(prior.scale * z, t, eps)
            total += (prior.denoise(x_t, t, text, tokens) - prior.scale * z).square().mean(dim=1)
    torch.testing.assert_close(got, -total / 5)


def test_the_likelihood_of_an_image_does_not_depend_on_its_batch(tiny: Tiny, pairs: Pairs) -> None:
    prior, z, keys = tiny(), F.normalize(pairs[0], dim=1), noise.keys_of("abcd")
    with noise.samples(keys):
        together = prior.log_likelihood(z)
    for i in range(4):
        with noise.samples(keys[i : i + 1]):
            torch.testing.assert_close(prior.log_likelihood(z[i : i + 1])[0], together[i])


def test_the_gradient_of_the_likelihood_agrees_with_finite_differences(tiny: Tiny, pairs: Pairs) -> None:
    prior, keys = tiny(), noise.keys_of("abcd")
    z = F.normalize(pairs[0], dim=1).requires_grad_()

    def value(z: Tensor) -> Tensor:
        with noise.samples(keys):
            return prior.log_likelihood(z, draws=2)

    # the last norm divides by a maximum that it holds constant, which costs 1e-4
    assert torch.autograd.gradcheck(value, (z,), eps=1e-6, atol=1e-3)


def test_more_draws_scatter_less(tiny: Tiny, pairs: Pairs) -> None:
    prior, z = tiny(), F.normalize(pairs[0], dim=1)[:1].expand(200, -1)

    def spread(draws: int) -> float:
        with noise.samples(noise.keys_of([str(i) for i in range(200)])):
            return float(prior.log_likelihood(z, draws=draws).detach().std())

    assert spread(16) < spread(1) / 3  # 1 / 4 without the strata


def test_a_prior_finds_its_own_data_likelier_than_others(tiny: Tiny) -> None:
    """A prior that always answers one direction is the likelihood of being near to it."""
    prior = tiny()
    direction = F.normalize(torch.randn(32, generator=torch.Generator().manual_seed(2), dtype=torch.float64), dim=0)
    prior.net.forward = lambda x_t, *args, **given: prior.scale * direction.expand_as(x_t)  # type: ignore[method-assign]
    near = F.normalize(direction + 0.1 * torch.randn(50, 32, dtype=torch.float64), dim=1)
    far = F.normalize(torch.randn(50, 32, dtype=torch.float64), dim=1)
    own, other = reference_likelihood(prior, near), reference_likelihood(prior, far, batch=7)
    assert own["n"] == other["n"] == 50
    assert own["mean"] > other["mean"] + 3 * own["std"]
    expected = -(direction - near).square().sum(dim=1)  # D / D: the scale squared over the mean
    assert own["mean"] == pytest.approx(float(expected.mean()))


def test_ranges_of_timesteps_are_never_empty_and_refused_outside_the_schedule() -> None:
    assert timesteps_between(1000, 0.9, 1.0) == (900, 999)
    assert timesteps_between(1000, 0.0, 1.0) == (0, 999)
    assert timesteps_between(10, 0.81, 0.82) == (8, 8)
    for low, high in ((0.5, 0.5), (-0.1, 1.0), (0.2, 1.1), (0.9, 0.1)):
        with pytest.raises(ValueError, match="say 0 <= t_min < t_max <= 1"):
            timesteps_between(1000, low, high)


def test_no_draws_are_refused(tiny: Tiny, pairs: Pairs) -> None:
    with pytest.raises(ValueError, match="draws=0: must be at least 1"):
        tiny().log_likelihood(pairs[0], draws=0)


def test_a_prior_that_never_learnt_to_do_without_a_text_is_not_asked_to(tiny: Tiny, pairs: Pairs) -> None:
    prior = tiny({"nulls": "text_kept"})
    assert not prior.net.textless and tiny().net.textless
    assert reference_likelihood(prior, F.normalize(pairs[0], dim=1)) == {}
    with pytest.raises(ValueError, match="never learnt to do without a text"):
        prior.log_likelihood(F.normalize(pairs[0], dim=1))
