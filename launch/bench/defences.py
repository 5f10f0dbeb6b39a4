"""What a defence costs beside one forward pass of the encoder that it defends."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.speed import Record
from launch.bench.models import random_encoder
from launch.bench.race import race
from modules import noise
from modules.counting import flops_of
from modules.defenses import TTC, CLIPureCos
from modules.defenses.clipure_diff import CLIPureDiff
from modules.encoders import load_clip
from modules.encoders.base import ImageEncoder
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork

TOKENS, BATCH = 77, 8
Work = Callable[[], object]


def defences(*, quick: bool, device: torch.device, rounds: int) -> Record:
    """Purification and counterattack around ViT-B/32, and the prior's cached text; random weights."""
    record = Record(
        "defences",
        f"batches of {BATCH}: defences around {'the embedded model' if quick else 'ViT-B/32'} against its bare "
        f"forward pass; one denoising step with the text's keys and values kept against read again ({TOKENS} tokens)",
    )
    _around_an_encoder(record, quick, device, rounds)
    _cached_text(record, quick, device, rounds)
    return record


def _around_an_encoder(record: Record, quick: bool, device: torch.device, rounds: int) -> None:
    encoder = (load_clip("tiny").image if quick else random_encoder("ViT-B-32")).to(device).eval().freeze()
    dim, size = encoder.embedding_dim, encoder.image_size
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, 3, size, size, generator=generator).to(device)
    blank = torch.randn(dim, generator=generator)
    tokens = torch.randn(1, TOKENS, dim, generator=generator)
    network = PriorNetwork(dim=dim, depth=2 if quick else 12, heads=12, max_text_len=TOKENS)
    prior = DiffusionPrior(network, NoiseSchedule())
    defended: dict[str, ImageEncoder] = {
        "bare": encoder,
        "clipure_cos": CLIPureCos(encoder, blank),
        "clipure_diff": CLIPureDiff(encoder, prior, blank, tokens),
        "clipure_diff_sphere": CLIPureDiff(encoder, prior, blank, tokens, step="sphere"),
        "ttc_none_gated": TTC(encoder, steps=2, tau=0.0),
        "ttc_all_gated": TTC(encoder, steps=2, tau=float("inf")),
    }
    defended = {name: defence.to(device).eval() for name, defence in defended.items()}

    def look(encoder: ImageEncoder) -> Work:
        @torch.no_grad()
        def work() -> Tensor:
            with noise.samples(torch.arange(BATCH, device=device)):
                return encoder.encode_image(x)

        return work

    timings = race({name: look(e) for name, e in defended.items()}, rounds=rounds, title="defences")
    for name in list(defended)[1:]:
        record.ratios[f"{name}_overhead"] = timings[name].median / timings["bare"].median
    record.goals |= {
        "clipure_cos_overhead": "at most 1.02; 1.14 is published",
        "ttc_none_gated_overhead": "3: two looks of the probe, and the answer",
        "ttc_all_gated_overhead": "7: and two steps, each a pass forwards and back",
    }
    record.timings |= timings


def _cached_text(record: Record, quick: bool, device: torch.device, rounds: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dim, depth, heads = (128, 4, 4) if quick else (768, 24, 32)
        network = PriorNetwork(dim=dim, depth=depth, heads=heads, max_text_len=TOKENS)
        prior = DiffusionPrior(network, NoiseSchedule()).to(device).eval().requires_grad_(False)
        x_t, text = torch.randn(2, BATCH, dim, device=device)
        tokens = torch.randn(1, TOKENS, dim, device=device)
    t = torch.full((BATCH,), 950, device=device)
    with torch.no_grad():
        prefix = prior.text_prefix(text[:1], tokens)

    @torch.no_grad()
    def kept() -> Tensor:
        return prior.denoise(x_t, t, None, prefix=prefix)

    @torch.no_grad()
    def again() -> Tensor:
        return prior.denoise(x_t, t, text[:1].expand(BATCH, -1), tokens.expand(BATCH, -1, -1))

    def with_gradient(work: Callable[[Tensor], Tensor]) -> Work:
        def run() -> Tensor:
            leaf = x_t.clone().requires_grad_()
            return torch.autograd.grad((work(leaf) - F.normalize(leaf, dim=1)).square().sum(), leaf)[0]

        return run

    both = {
        "kept": kept,
        "again": again,
        "kept_gradient": with_gradient(lambda x: prior.denoise(x, t, None, prefix=prefix)),
        "again_gradient": with_gradient(
            lambda x: prior.denoise(x, t, text[:1].expand(BATCH, -1), tokens.expand(BATCH, -1, -1))
        ),
    }
    torch.testing.assert_close(kept(), again(), rtol=1e-3, atol=1e-3)
    timings = race(both, rounds=rounds, title="cached text")
    record.ratios["clipure_diff_cache_ratio"] = timings["again"].median / timings["kept"].median
    record.ratios["clipure_diff_cache_ratio_gradient"] = (
        timings["again_gradient"].median / timings["kept_gradient"].median
    )
    record.ratios["clipure_diff_cache_operations"] = flops_of(again) / flops_of(kept)
    record.goals["clipure_diff_cache_ratio"] = "at least 8 (depth 24)"
    record.goals["clipure_diff_cache_operations"] = "at least 10 (depth 24)"
    record.timings |= timings
