from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.defenses import View, route
from modules.defenses.clipure_cos import angle_to
from modules.defenses.clipure_diff import CLIPureDiff
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork
from tests.modules.toys import ConvEncoder, images

DIM = 16
BLANK = torch.randn(DIM, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
TOKENS = torch.randn(1, 3, DIM, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
Z = torch.randn(6, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
KEYS = noise.keys_of("abcdef")


def small_prior() -> DiffusionPrior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PriorNetwork(dim=DIM, depth=2, heads=2, dim_head=8, max_text_len=5, num_timesteps=20)
    return DiffusionPrior(network, NoiseSchedule(timesteps=20)).double().eval()


def purifier(prior: DiffusionPrior | None = None, **settings: object) -> CLIPureDiff:
    encoder = ConvEncoder(DIM).double().freeze()
    return CLIPureDiff(encoder, prior or small_prior(), BLANK, TOKENS, **settings).eval()  # type: ignore[arg-type]


def test_the_honest_step_is_the_papers_written_out_sample_by_sample() -> None:
    prior, settings = small_prior(), {"steps": 3, "step_size": 0.1, "mc_draws": 2, "t_min": 0.5}
    with noise.samples(KEYS, seed=4):
        got = purifier(prior, **settings).purify_latent(Z)
    for i in range(6):
        with noise.samples(KEYS[i : i + 1], seed=4):
            z = Z[i : i + 1]
            u = z / z.norm()
            for step in range(3):
                leaf, errors = u.clone().requires_grad_(), []
                for draw in range(2):
                    t = noise.integers(z, f"clipure_diff/{step}/{draw}/t", 10, 19)
                    eps = noise.normal(z, f"clipure_diff/{step}/{draw}/eps")
                    x_t = prior.noise_scheduler.add_noise(4.0 * leaf, t, eps)
                    x0 = prior.net(x_t, t, F.normalize(BLANK, dim=0)[None], TOKENS)
                    errors.append((x0 - 4.0 * leaf).square().mean())
                (grad,) = torch.autograd.grad((errors[0] + errors[1]) / 2, leaf)
                u = F.normalize(u - 0.1 * grad / grad.norm(), dim=1)
        torch.testing.assert_close(got[i : i + 1], u * z.norm(), rtol=1e-9, atol=1e-9)


def test_the_prompt_is_read_once_for_ever() -> None:
    defense, read = purifier(steps=3), []
    original = defense.prior.text_prefix
    defense.prior.text_prefix = lambda *said: read.append(len(said)) or original(*said)  # type: ignore[method-assign]
    with noise.samples(KEYS):
        first = defense.purify_latent(Z)
        defense.purify_latent(Z)
    assert len(read) == 1
    with noise.samples(KEYS):  # moved to another precision it must be read again
        single = defense.float().purify_latent(Z.float())
    assert len(read) == 2 and single.dtype == torch.float32
    torch.testing.assert_close(single.double(), first, rtol=1e-3, atol=1e-3)


def test_reading_the_prompt_once_changes_nothing() -> None:
    defense, prior = purifier(), small_prior()
    t, eps = torch.tensor([0, 3, 7, 11, 15, 19]), torch.randn(6, DIM, dtype=torch.float64)
    x_t = prior.noise_scheduler.add_noise(4 * F.normalize(Z, dim=1), t, eps)
    slow = prior.denoise(x_t, t, BLANK[None].expand(6, -1), TOKENS.expand(6, -1, -1))
    torch.testing.assert_close(prior.denoise(x_t, t, None, prefix=defense.prompt()), slow, rtol=0, atol=1e-12)


@pytest.mark.parametrize("step_size", [0.01, 0.3, 10.0])
def test_a_step_on_the_sphere_never_passes_the_estimate(step_size: float) -> None:
    defense = purifier(step="sphere", steps=1, step_size=step_size, mc_draws=3)
    with noise.samples(KEYS):
        u = F.normalize(Z, dim=1)
        target = F.normalize(torch.stack(defense._looks(u, Z, 0)).mean(dim=0), dim=1)
        moved = F.normalize(defense.purify_latent(Z), dim=1)
    before, after = angle_to(u, target), angle_to(moved, target)
    torch.testing.assert_close(after, (before - step_size).clamp_min(0), rtol=1e-6, atol=1e-6)
    span = torch.stack([u, target], dim=1)  # and it stays in their plane
    rest = moved - torch.linalg.lstsq(span.transpose(1, 2), moved).solution[:, None].matmul(span)[:, 0]
    assert rest.norm(dim=1).max() < 1e-9


def test_a_step_on_the_sphere_asks_for_no_gradient_of_the_prior() -> None:
    defense = purifier(step="sphere", steps=2)
    with torch.no_grad(), noise.samples(KEYS):
        assert not defense.purify_latent(Z).requires_grad
    leaf = Z.clone().requires_grad_()
    with noise.samples(KEYS):
        assert torch.autograd.gradcheck(lambda z: defense.purify_latent(z), (leaf,), eps=1e-6, atol=1e-3)


def test_the_prompts_guidance_extrapolates_from_no_text() -> None:
    settings = {"deterministic": True, "t_min": 0.95}
    looks = {
        name: purifier(**settings, **said)._looks(F.normalize(Z, dim=1), Z, 0)[0]  # type: ignore[arg-type]
        for name, said in {
            "prompt": {},
            "none": {"conditional": False},
            "guided": {"guidance": 3.0},
            "not": {"guidance": 0.0},
        }.items()
    }
    torch.testing.assert_close(looks["guided"], looks["none"] + 3 * (looks["prompt"] - looks["none"]))
    torch.testing.assert_close(looks["not"], looks["none"])
    assert (looks["prompt"] - looks["none"]).abs().max() > 1e-3


def test_a_deterministic_purifier_gives_every_image_the_same_noise() -> None:
    defense = purifier(deterministic=True)
    assert not defense.random and View.eot not in defense.views()
    same = Z[:1].expand(4, -1)
    with noise.samples(KEYS[:4]):
        moved = defense.purify_latent(same)
    torch.testing.assert_close(moved, moved[:1].expand(4, -1))


def test_more_draws_make_the_step_steadier() -> None:
    u = F.normalize(Z, dim=1)

    def spread(draws: int) -> float:
        defense = purifier(steps=1, mc_draws=draws)
        moved = []
        for draw in range(20):
            with noise.samples(KEYS, draw=draw):
                moved.append(defense.purify_latent(u))
        return float(torch.stack(moved).std(dim=0).mean())

    assert spread(16) < 0.6 * spread(1)


def written_out(prior: DiffusionPrior, z: Tensor, steps: int) -> Tensor:
    """The released loop on one batch of two, noise by their names."""
    e = F.normalize(z.half().double(), dim=1)
    for step in range(steps):
        stream = f"clipure_diff/{step}"
        t = noise.integers(z, f"{stream}/t", 18, 19)[:1].expand(2)
        leaf = e.clone().requires_grad_()
        x = 4.0 * leaf
        noisy = prior.noise_scheduler.add_noise(x, t, noise.normal(z, f"{stream}/eps"))
        kept = {f"keep_{name}": noise.uniform(z, f"{stream}/{name}", ()) < 0.9 for name in ("text", "image")}
        text = BLANK[None].expand(2, -1)
        answer = prior.net(noisy, t, text, text[:, None].expand(-1, 5, -1), **kept)
        (grad,) = torch.autograd.grad((answer - x).square().mean(), leaf)  # mean over the batch too
        moved = e - 30.0 * grad / grad.norm()
        e = moved / moved.norm(dim=1, keepdim=True)
    return e


def test_the_legacy_loop_is_the_released_one_written_out() -> None:
    prior = small_prior()
    defense = purifier(prior, mode="legacy", steps=2)
    with noise.samples(KEYS):
        got = defense.purify_latent(Z)
    for i in (0, 2, 4):
        with noise.samples(KEYS[i : i + 2]):
            torch.testing.assert_close(got[i : i + 2], written_out(prior, Z[i : i + 2], 2), rtol=1e-9, atol=1e-9)


def test_the_legacy_gradient_is_destroyed_and_the_exact_one_is_not() -> None:
    defense = purifier(mode="legacy")
    assert (defense.artefact, defense.group, defense.random) == ("clipure-legacy", 2, True)
    assert View.released in defense.views()

    def slope(view: View) -> float:
        x = images(6).double().requires_grad_()
        with noise.samples(KEYS):
            z = route(view, defense).looks[0].encode_image(x)
        weight = torch.randn(z.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return float(torch.autograd.grad((z * weight).sum(), x)[0].norm())

    assert slope(View.released) < 1e-6 * slope(View.bpda)
    assert slope(View.adaptive) > 1e-4 * slope(View.bpda)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"mode": "legacy", "guidance": 2.0},
            "CLIPure-Diff has no guidance in legacy mode; the released code fixes it",
        ),
        ({"mode": "legacy", "step": "sphere"}, "CLIPure-Diff has no step in legacy mode"),
        ({"t_min": 0.9, "t_max": 0.3}, "say 0 <= t_min < t_max <= 1"),
        ({"mc_draws": 0}, "mc_draws >= 1"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(settings: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        purifier(**settings)  # type: ignore[arg-type]


def test_the_step_sizes_that_nobody_says_are_the_papers_and_the_honest_one() -> None:
    assert purifier().step_size == 0.05 and purifier(mode="legacy").step_size == 30.0
    assert math.isclose(purifier(step_size=0.2).step_size, 0.2)
