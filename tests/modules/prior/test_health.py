from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork
from modules.prior.health import health, measures, timestep_bins, unrelated
from modules.prior.pairs import Pairs


@pytest.fixture(scope="module")
def prior() -> DiffusionPrior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PriorNetwork(dim=16, depth=1, heads=2, dim_head=8, max_text_len=3, num_timesteps=20)
        return DiffusionPrior(network, NoiseSchedule(timesteps=20)).eval()


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    generator = torch.Generator().manual_seed(3)
    image, text = (F.normalize(torch.randn(5, 16, generator=generator), dim=-1) for _ in range(2))
    return Pairs(image, text, torch.randn(5, 2, 16, generator=generator), tuple("abcde"))


def measured(prior: DiffusionPrior, pairs: Pairs) -> dict[str, Tensor]:
    with noise.samples(noise.keys_of(pairs.key), seed=1):
        return health(prior, pairs, sample_steps=4, bins=4)


def test_every_measure_is_taken_and_named_beforehand(prior: DiffusionPrior, pairs: Pairs) -> None:
    got = measured(prior, pairs)
    assert list(got) == measures(20, 4)
    assert all(value.shape == (5,) and value.isfinite().all() for value in got.values())
    assert list(got)[-4:] == [f"denoising/{edges}" for edges in ("0000-0004", "0005-0009", "0010-0014", "0015-0019")]


def test_similarities_are_the_published_cosines(prior: DiffusionPrior, pairs: Pairs) -> None:
    got = measured(prior, pairs)
    with noise.samples(noise.keys_of(pairs.key), seed=1):
        drawn = prior.sample(pairs.text, pairs.tokens, steps=4, stream="val/sample")
    for i in range(5):
        cosines = {
            "similarity_image": drawn[i] @ pairs.image[i],
            "similarity_text": drawn[i] @ pairs.text[i],
            "baseline": pairs.image[i] @ pairs.text[i],
            "difference_from_baseline": drawn[i] @ pairs.text[i] - pairs.image[i] @ pairs.text[i],
            "similarity_unrelated": drawn[i] @ pairs.text[(i + 1) % 5],
        }
        for name, expected in cosines.items():
            torch.testing.assert_close(got[name][i], expected, rtol=1e-5, atol=1e-5)


def test_a_sample_measures_the_same_in_any_company(prior: DiffusionPrior, pairs: Pairs) -> None:
    whole = measured(prior, pairs)
    assert pairs.tokens is not None
    alone = measured(prior, Pairs(pairs.image[2:3], pairs.text[2:3], pairs.tokens[2:3], ("c",)))
    for name, value in alone.items():
        if name == "similarity_unrelated":
            assert value.shape == (0,)  # there is no other text
        else:
            torch.testing.assert_close(value[0], whole[name][2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_unrelated_text_is_truly_another_one(dtype: torch.dtype) -> None:
    a, b, c = F.normalize(torch.randn(3, 64, generator=torch.Generator().manual_seed(5)), dim=-1)
    text = torch.stack([a, a, b, a, c, c]).to(dtype).float()
    rows, others = unrelated(text)
    assert rows.tolist() == [0, 1, 2, 3, 4, 5] and others.tolist() == [2, 2, 3, 4, 0, 0]
    assert unrelated(torch.stack([a, a, 2 * a]))[0].tolist() == []


def test_timesteps_are_parted_without_gap_or_overlap() -> None:
    for timesteps, bins in ((1000, 10), (100, 7), (20, 3), (5, 10)):
        edges = timestep_bins(timesteps, bins)
        assert len(edges) == min(timesteps, bins)
        assert [t for first, last in edges for t in range(first, last + 1)] == list(range(timesteps))


def test_the_denoising_loss_of_a_part_is_that_of_its_timesteps(prior: DiffusionPrior, pairs: Pairs) -> None:
    got = measured(prior, pairs)["denoising/0015-0019"]
    with noise.samples(noise.keys_of(pairs.key), seed=1):
        t = noise.integers(pairs.image, "val/denoising/0015-0019/t", 15, 19)
        eps = noise.normal(pairs.image, "val/denoising/0015-0019/eps")
        x0 = prior.scale * pairs.image
        x_t = prior.noise_scheduler.add_noise(x0, t, eps)
        with torch.no_grad():
            expected = (prior.denoise(x_t, t, pairs.text, pairs.tokens) - x0).square().mean(dim=1)
    assert t.min() >= 15 and t.max() <= 19
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
