from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.prior import DiffusionPrior, NoiseSchedule
from modules.prior.sampling import ddim, ddim_grid, ddpm, nearest, sampler

Tiny = Callable[..., DiffusionPrior]
Pairs = tuple[Tensor, Tensor, Tensor]


def _shrink(x_t: Tensor, t: Tensor, estimate: Tensor | None = None) -> Tensor:
    """Some denoiser: smooth, and different at every step."""
    return torch.tanh(x_t) * (1 + t[:, None] / 50)


def test_the_ddim_grid_falls_evenly_to_minus_one() -> None:
    grid = ddim_grid(1000, 64)
    assert grid[0] == 984 and grid[-1] == -1 and len(grid) == 64
    assert ddim_grid(50, 4) == [37, 24, 11, -1]
    assert all(12 <= a - b <= 17 for a, b in zip(grid[:-1], grid[1:], strict=True))


@pytest.mark.parametrize("legacy", [False, True])
def test_ddim_equals_the_formulas_written_out(legacy: bool) -> None:
    schedule = NoiseSchedule(timesteps=50).double()
    like = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).double()
    got = ddim(_shrink, schedule, like, steps=5, eta=0.7, stream="s", legacy_levels=legacy)
    x = noise.normal(like, "s/start")
    kept = [1.0, *schedule.alphas_cumprod.tolist()]  # kept[i] is alphas_cumprod_prev[i]
    for now, after in ((39, 29), (29, 19), (19, 9)):
        x0 = _shrink(x, torch.full((3,), now))
        eps = (x - kept[now + 1] ** 0.5 * x0) / (1 - kept[now + 1]) ** 0.5
        a, b = (kept[i + (not legacy)] for i in (now, after))
        c1 = 0.7 * ((1 - a / b) * (1 - b) / (1 - a)) ** 0.5
        c2 = (1 - b - c1**2) ** 0.5
        x = x0 * b**0.5 + c1 * noise.normal(like, f"s/{after}") + c2 * eps
    torch.testing.assert_close(got, _shrink(x, torch.full((3,), 9)), rtol=1e-5, atol=1e-5)


def test_ddpm_equals_the_posterior_steps_written_out() -> None:
    schedule = NoiseSchedule(timesteps=6).double()
    like = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).double()
    x = noise.normal(like, "s/start")
    kept = [1.0, *schedule.alphas_cumprod.tolist()]
    for t in (5, 4, 3, 2, 1, 0):
        beta, now, before = schedule.betas[t].item(), kept[t + 1], kept[t]
        x0 = _shrink(x, torch.full((3,), t))
        x = (beta * before**0.5 * x0 + (1 - before) * (1 - beta) ** 0.5 * x) / (1 - now)
        if t:
            x = x + (beta * (1 - before) / (1 - now)) ** 0.5 * noise.normal(like, f"s/{t}")
    got = ddpm(_shrink, schedule, like, stream="s")
    torch.testing.assert_close(got, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("steps", "eta"), [(250, 0.0), (250, 1.0), (1000, 1.0)])
def test_gaussian_data_are_sampled_with_their_own_mean_and_spread(steps: int, eta: float) -> None:
    schedule, mean, spread = NoiseSchedule(), 2.0, 0.5

    def posterior_mean(x_t: Tensor, t: Tensor, estimate: Tensor | None) -> Tensor:
        kept = schedule.alphas_cumprod[t][:, None]
        gain = kept.sqrt() * spread**2 / (kept * spread**2 + 1 - kept)
        return mean + gain * (x_t - kept.sqrt() * mean)

    like = torch.arange(2000.0)[:, None].expand(-1, 4)
    draw = sampler(posterior_mean, schedule, steps=steps, eta=eta, legacy_levels=False)
    x = draw(like, "s")
    assert x.mean().item() == pytest.approx(mean, abs=0.01)
    assert x.std().item() == pytest.approx(spread, rel=0.03)
    if steps < 1000:  # the reference's levels miss both by far
        x = sampler(posterior_mean, schedule, steps=steps, eta=eta, legacy_levels=True)(like, "s")
        assert abs(x.mean().item() - mean) > 0.1
        assert abs(x.std().item() - spread) > 0.04


def test_ddim_without_eta_is_a_function_of_its_start_alone(tiny: Tiny, pairs: Pairs) -> None:
    _, text, tokens = pairs
    prior = tiny()
    with noise.samples(noise.keys_of("abcd"), seed=1):
        first = prior.sample(text, tokens, steps=10, eta=0.0)
        torch.manual_seed(99)
        assert torch.equal(prior.sample(text, tokens, steps=10, eta=0.0), first)
        assert not torch.allclose(prior.sample(text, tokens, steps=10, eta=1.0), first)
    with noise.samples(noise.keys_of("abcd"), seed=2):
        assert not torch.allclose(prior.sample(text, tokens, steps=10, eta=0.0), first)


@pytest.mark.parametrize("steps", [10, 50])
def test_samples_of_a_batch_are_those_of_its_members(tiny: Tiny, pairs: Pairs, steps: int) -> None:
    _, text, tokens = pairs
    prior, keys = tiny(), noise.keys_of("abcd")
    with noise.samples(keys):
        together = prior.sample(text, tokens, steps=steps)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(4, dtype=torch.float64))
    for i in range(4):
        with noise.samples(keys[i : i + 1]):
            alone = prior.sample(text[i : i + 1], tokens[i : i + 1], steps=steps)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-9)


def test_sampling_leaves_the_global_generator_alone(tiny: Tiny, pairs: Pairs) -> None:
    prior, state = tiny(), torch.get_rng_state()
    prior.sample(pairs[1], steps=4)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_candidate_nearest_to_the_text_is_kept(tiny: Tiny, pairs: Pairs) -> None:
    _, text, _ = pairs
    prior = tiny()
    first = prior.sample(text, steps=5, best_of=1)
    best = prior.sample(text, steps=5, best_of=8)
    gain = F.cosine_similarity(best, text) - F.cosine_similarity(first, text)
    assert gain.min() >= 0 and gain.max() > 0


def test_a_broken_denoiser_shows_in_the_samples() -> None:
    text = torch.ones(2, 4)
    x = nearest(lambda like, stream: like * torch.nan, text, count=2, stream="s")
    assert x.isnan().all()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"steps": 51}, r"^steps=51: must be in 2\.\.50, the prior's own steps$"),
        ({"steps": 1}, r"^steps=1: must be in 2\.\.50"),
        ({"steps": 5, "eta": 1.5}, r"^eta=1.5: must be in \[0, 1\]$"),
        ({"steps": 5, "best_of": 0}, r"^best_of=0: must be at least 1$"),
    ],
)
def test_impossible_sampling_is_refused_in_one_line(
    tiny: Tiny, pairs: Pairs, wrong: dict[str, float], line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        tiny().sample(pairs[1], **wrong)  # pyright: ignore[reportArgumentType]
