from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork

Tiny = Callable[..., DiffusionPrior]
Pairs = tuple[Tensor, Tensor, Tensor]
STEPS = torch.tensor([0, 7, 30, 49])


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
@pytest.mark.parametrize("loss", ["l2", "l1", "huber"])
@torch.no_grad()
def test_the_loss_is_the_distance_to_the_target_at_the_drawn_step(
    tiny: Tiny, pairs: Pairs, prediction: str, loss: str
) -> None:
    image, text, tokens = pairs
    prior = tiny(prediction=prediction, loss=loss, text_drop=0.5, image_drop=0.5)
    tables = prior.noise_scheduler
    got = prior.loss_per_sample(image, text, tokens, stream="s")
    t = noise.integers(image, "s/t", 0, 49)
    eps = noise.normal(image, "s/eps")
    keep_text = noise.uniform(image, "s/text", ()) < 0.5
    keep_image = noise.uniform(image, "s/image", ()) < 0.5
    for i in range(4):
        x0 = image[i] / image[i].norm() * 32**0.5
        a, b = tables.sqrt_alphas_cumprod[t[i]], tables.sqrt_one_minus_alphas_cumprod[t[i]]
        answer = prior.net(
            (a * x0 + b * eps[i])[None],
            t[i : i + 1],
            (text[i] / text[i].norm())[None],
            tokens[i : i + 1],
            keep_text=keep_text[i : i + 1],
            keep_image=keep_image[i : i + 1],
        )[0]
        target = {"x0": x0, "eps": eps[i], "v": a * eps[i] - b * x0}[prediction]
        off = (answer - target).abs()
        near = torch.where(off < 1, off**2 / 2, off - 0.5)
        expected = {"l2": off**2, "l1": off, "huber": near}[loss].mean()
        torch.testing.assert_close(got[i], expected)


@torch.no_grad()
def test_drop_rates_of_one_hide_text_and_image_and_of_zero_hide_nothing(tiny: Tiny, pairs: Pairs) -> None:
    image, text, tokens = pairs
    with noise.samples(noise.keys_of("abcd")):
        blind = tiny(text_drop=1.0).loss_per_sample(image, text, tokens)
        assert torch.equal(blind, tiny(text_drop=1.0).loss_per_sample(image, -text, None))
        seeing = tiny(text_drop=0.0).loss_per_sample(image, text, tokens)
        other = tiny(text_drop=0.0).loss_per_sample(image, -text, tokens)
        assert (seeing != other).all()


@torch.no_grad()
def test_the_callers_tensors_stay_as_they_were_and_their_length_does_not_matter(tiny: Tiny, pairs: Pairs) -> None:
    image, text, tokens = pairs
    kept = [tensor.clone() for tensor in pairs]
    prior = tiny()
    with noise.samples(noise.keys_of("abcd")):
        first = prior.loss_per_sample(image, text, tokens)
        second = prior.loss_per_sample(3 * image, 0.1 * text, tokens)
        prior.sample(text, tokens, steps=4)
    torch.testing.assert_close(first, second)
    prior.denoising_error(image, STEPS, image, text, tokens)
    assert all(torch.equal(a, b) for a, b in zip(pairs, kept, strict=True))


@torch.no_grad()
def test_the_loss_of_a_batch_is_that_of_its_samples_and_differs_between_draws(tiny: Tiny, pairs: Pairs) -> None:
    image, text, tokens = pairs
    prior = tiny()
    keys = noise.keys_of("abcd")
    with noise.samples(keys, seed=5, draw=2):
        together = prior.loss_per_sample(image, text, tokens)
    with noise.samples(keys, seed=5, draw=3):
        assert (prior.loss_per_sample(image, text, tokens) != together).all()
    for i in range(4):
        with noise.samples(keys[i : i + 1], seed=5, draw=2):
            alone = prior.loss_per_sample(image[i : i + 1], text[i : i + 1], tokens[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-12)


class _Knows(torch.nn.Module):
    """Stands in for the network: answers exactly what was asked, from the true x_0."""

    def __init__(self, prior: DiffusionPrior, x0: Tensor) -> None:
        super().__init__()
        self.prediction, self.schedule, self.x0 = prior.prediction, prior.noise_scheduler, x0

    def forward(self, x_t: Tensor, t: Tensor, *_: Any, **__: Any) -> Tensor:
        eps = self.schedule.eps_from_x0(x_t, t, self.x0)
        v = self.schedule.velocity(self.x0, t, eps)
        return {"x0": self.x0, "eps": eps, "v": v}[self.prediction]


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
def test_denoise_gives_x0_whatever_the_network_predicts(tiny: Tiny, pairs: Pairs, prediction: str) -> None:
    prior, z = tiny(prediction=prediction), F.normalize(pairs[0], dim=-1)
    x0, eps, t = prior.scale * z, pairs[1], torch.tensor([3, 10, 30, 45])
    prior.net = _Knows(prior, x0)  # pyright: ignore[reportAttributeAccessIssue]
    x_t = prior.noise_scheduler.add_noise(x0, t, eps)
    torch.testing.assert_close(prior.denoise(x_t, t, None), x0, rtol=0, atol=1e-4)
    error = prior.denoising_error(z, t, eps, None)
    torch.testing.assert_close(error, torch.zeros_like(error), rtol=0, atol=1e-8)


@torch.no_grad()
def test_guidance_leads_away_from_the_answer_without_text_and_image(tiny: Tiny, pairs: Pairs) -> None:
    x_t, text, tokens = pairs
    prior = tiny()
    plain = prior.denoise(x_t, STEPS, text, tokens)
    null = prior.denoise(x_t, STEPS, text, tokens, guidance=0.0)
    blind = torch.zeros(4, dtype=torch.bool)
    expected = prior.net(x_t, STEPS, text, tokens, keep_text=blind, keep_image=blind)
    torch.testing.assert_close(null, expected)
    guided = prior.denoise(x_t, STEPS, text, tokens, guidance=3.0)
    torch.testing.assert_close(guided, null + 3 * (plain - null))
    prefix = prior.text_prefix(text, tokens)
    again = prior.denoise(x_t, STEPS, None, guidance=3.0, prefix=prefix)
    torch.testing.assert_close(again, guided)


def test_the_denoising_error_has_first_and_second_derivatives_in_the_latent(tiny: Tiny, pairs: Pairs) -> None:
    image, text, tokens = pairs
    prior = tiny().requires_grad_(False)
    z = F.normalize(image, dim=-1).requires_grad_()

    def error(u: Tensor) -> Tensor:
        return prior.denoising_error(u, STEPS, text, text, tokens)

    assert torch.autograd.gradcheck(error, (z,))
    (first,) = torch.autograd.grad(error(z).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), z)
    assert torch.isfinite(second).all() and second.abs().max() > 0
    x0 = prior.scale * z
    x0_hat = prior.denoise(prior.noise_scheduler.add_noise(x0, STEPS, text), STEPS, text, tokens)
    torch.testing.assert_close(error(z), ((x0_hat - x0) ** 2).sum(dim=-1) / 32)


@torch.no_grad()
def test_clamping_puts_every_prediction_on_the_sphere(tiny: Tiny, pairs: Pairs) -> None:
    x_t, text, tokens = pairs
    lengths = tiny(clamp=True).denoise(x_t, STEPS, text, tokens).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 32**0.5))
    free = tiny().denoise(x_t, STEPS, text, tokens).norm(dim=-1)
    assert (free - 32**0.5).abs().min() > 1e-3


def test_sixteen_pairs_can_be_learned_by_heart() -> None:
    torch.manual_seed(1)  # with another two of the pairs may stay exchanged, on some kernels
    prior = DiffusionPrior(
        PriorNetwork(dim=32, depth=2, heads=2, dim_head=16, max_text_len=2, num_timesteps=50),
        NoiseSchedule(timesteps=50),
        text_drop=0.0,
        image_drop=0.0,
    )
    image, text = torch.randn(2, 16, 32)
    image = F.normalize(image, dim=-1)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=3e-3)
    keys = noise.keys_of([str(i) for i in range(16)])
    losses = []
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / 600)
        with noise.samples(keys, draw=step):
            loss = prior.loss_per_sample(image, text).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert sum(losses[-20:]) / 20 < 0.01
    predicted = prior.eval().sample(text, steps=10)
    assert F.cosine_similarity(predicted, image, dim=-1).min() > 0.98


def test_a_prior_is_built_again_from_its_configuration(tiny: Tiny, pairs: Pairs) -> None:
    prior = tiny({"num_text_embeds": 2}, prediction="v", loss="huber", text_drop=0.2, image_drop=0.3)
    again = DiffusionPrior.from_config(prior.config()).double().eval()
    assert again.config() == prior.config()
    again.load_state_dict(prior.state_dict())
    with noise.samples(noise.keys_of("abcd")):
        assert torch.equal(again.loss_per_sample(*pairs), prior.loss_per_sample(*pairs))


def test_settings_that_do_not_fit_are_refused_in_one_line(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match=r"^unknown prediction 'x'; choose one of: x0, eps, v$"):
        tiny(prediction="x")
    with pytest.raises(ValueError, match=r"^unknown loss 'mse'; choose one of: l2, l1, huber$"):
        tiny(loss="mse")
    with pytest.raises(ValueError, match=r"^text_drop=2: must be in \[0, 1\]$"):
        tiny(text_drop=2)
    with pytest.raises(ValueError, match=r"^clamp=True needs prediction 'x0', not 'eps'$"):
        tiny(clamp=True, prediction="eps")
    with pytest.raises(ValueError, match=r"^the network knows 60 steps but the schedule has 50;"):
        tiny({"num_timesteps": 60})
    with pytest.raises(ValueError, match=r"^not the configuration of a prior: 'network'$"):
        DiffusionPrior.from_config({})
    config = tiny().config()
    with pytest.raises(ValueError, match="not the configuration of a prior: .*'colour'"):
        DiffusionPrior.from_config({**config, "colour": "red"})


def test_a_self_conditioned_prior_learns_from_its_own_estimate_on_half_of_the_samples(tiny: Tiny, pairs: Pairs) -> None:
    prior = tiny({"self_cond": True}, text_drop=0.0, image_drop=0.0)
    image, text, tokens = (part.repeat(16, *[1] * (part.ndim - 1)) for part in pairs)
    keys = noise.keys_of([str(i) for i in range(len(image))])
    seen: list[Tensor | None] = []
    hook = prior.net.register_forward_pre_hook(
        lambda _module, _inputs, given: seen.append(given.get("self_cond")), with_kwargs=True
    )
    with noise.samples(keys):
        losses = prior.loss_per_sample(image, text, tokens)
    hook.remove()
    assert len(seen) == 2 and seen[0] is None and seen[1] is not None
    used = seen[1].abs().sum(dim=1) > 0
    assert 16 <= int(used.sum()) <= 48
    with noise.samples(keys):  # what the others see is what a network without an estimate sees
        x0 = prior.on_sphere(image)
        t = noise.integers(image, "prior/t", 0, 49)
        x_t = prior.noise_scheduler.add_noise(x0, t, noise.normal(image, "prior/eps"))
    plain = (prior.net(x_t, t, F.normalize(text, dim=-1), tokens) - x0).square().mean(dim=-1)
    torch.testing.assert_close(losses[~used], plain[~used], rtol=1e-9, atol=1e-9)
    assert (losses[used] - plain[used]).abs().min() > 1e-9


def test_sampling_hands_a_self_conditioned_prior_its_last_estimate(tiny: Tiny, pairs: Pairs) -> None:
    prior = tiny({"self_cond": True})
    seen: list[Tensor | None] = []
    prior.net.register_forward_pre_hook(
        lambda _module, _inputs, given: seen.append(given.get("self_cond")), with_kwargs=True
    )
    prior.sample(pairs[1], steps=4, best_of=2)
    assert [estimate is None for estimate in seen] == [True, False, False] * 2


def test_guidance_with_a_prepared_null_is_the_same(tiny: Tiny, pairs: Pairs) -> None:
    image, text, tokens = pairs
    prior = tiny()
    prefix, null = prior.text_prefix(text, tokens), prior.text_prefix(None)
    plain = prior.denoise(image, STEPS, text, tokens, guidance=2.0)
    quick = prior.denoise(image, STEPS, None, guidance=2.0, prefix=prefix, null_prefix=null)
    torch.testing.assert_close(quick, plain, rtol=0, atol=1e-12)
