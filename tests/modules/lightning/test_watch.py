"""What a step tells of itself, beside slow and obvious ways to learn the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from data.batches import ImageBatch
from modules import noise
from modules.attacks.pgd import PGD
from modules.encoders.base import ImageEncoder
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.optim import OptimizerSettings
from modules.lightning.watch import Climb, StepWatch, embedding_of
from modules.objectives import FARE
from modules.perturb.losses import squared_l2
from modules.perturb.threat import Threat
from tests.modules.toys import ConvEncoder, images


def batch_of(count: int = 4) -> ImageBatch:
    x = images(count)
    return ImageBatch(x=x, y=torch.zeros(count, dtype=torch.long), key=tuple(map(str, range(count))))


def module_of(keep: str, eps: float = 8 / 255) -> AdversarialFineTuning:
    attack = PGD(Threat("linf", eps), steps=3, step_size=4 / 255, keep=keep)  # type: ignore[arg-type]
    torch.manual_seed(0)
    encoder = ConvEncoder().train()
    reference = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return AdversarialFineTuning(encoder, reference, FARE(), attack, settings=OptimizerSettings(), seed=3)


@contextmanager
def passes(encoder: ImageEncoder) -> Iterator[list[Tensor]]:
    """The images of every pass."""
    seen: list[Tensor] = []
    encode = type(encoder).encode_image

    def counting(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return encode(encoder, x)

    encoder.encode_image = counting  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        del encoder.encode_image


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_gain_is_the_loss_at_the_end_minus_that_at_the_start(keep: str) -> None:
    module, batch = module_of(keep), batch_of()
    module.watch.wanted = True
    x_adv = module.perturb(batch, 5)
    (gain,) = module.watch.take().values()
    with noise.samples(noise.keys_of(batch.key), seed=3, draw=5):
        start = (batch.x + module.attack.threat.sample(batch.x, "inner")).clamp(0, 1)
    target = module.reference.encode_image(batch.x)
    module.encoder.eval()
    with torch.no_grad():
        first, last = (squared_l2(module.encoder.encode_image(x), target) for x in (start, x_adv))
    assert gain.item() == pytest.approx((last - first).mean().item(), rel=1e-5) and gain > 0


@pytest.mark.parametrize(("keep", "more"), [("best", 0), ("last", 1)])
def test_a_watched_attack_costs_one_pass_at_most_and_an_unwatched_one_nothing(keep: str, more: int) -> None:
    counts = []
    for wanted in (False, True):
        module, batch = module_of(keep), batch_of()
        module.watch.wanted = wanted
        with passes(module.encoder) as seen:
            module._outer(batch, module.perturb(batch, 0))
        counts.append(len(seen))
        assert bool(module.watch.take()) == wanted
    assert counts[1] == counts[0] + more


def test_a_watched_step_has_the_same_loss_gradients_and_perturbation() -> None:
    found = []
    for wanted in (False, True):
        module, batch = module_of("last"), batch_of()
        module.watch.wanted = wanted
        x_adv = module.perturb(batch, 0)
        module._outer(batch, x_adv).mean().backward()
        found.append([x_adv, *(parameter.grad for parameter in module.encoder.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_cosine_is_that_of_perturbed_and_original_embeddings() -> None:
    module, batch = module_of("last"), batch_of()
    module.watch.wanted = True
    x_adv = module.perturb(batch, 0)
    module._outer(batch, x_adv)
    found = module.watch.take()["train/cosine"]
    z, z0 = module.encoder.encode_image(x_adv).detach().double(), module.reference.encode_image(batch.x).double()
    assert found.item() == pytest.approx(F.cosine_similarity(z, z0).mean().item(), rel=1e-5) and found < 1
    assert "encode_image" not in vars(module.encoder), "the encoder is as it was"


def test_without_a_radius_nothing_is_gained() -> None:
    module = module_of("last", eps=0.0)
    module.watch.wanted = True
    module.perturb(batch_of(), 0)
    assert module.watch.take()["train/attack_gain"] == 0


def test_batches_of_a_step_are_averaged_and_forgotten() -> None:
    watch = StepWatch()
    watch.note("a", torch.tensor([100.0]))
    watch.wanted = True
    watch.note("a", torch.tensor([1.0, 3.0]))
    watch.note("a", torch.tensor([6.0]))
    assert watch.take() == {"a": torch.tensor(4.0)}
    assert watch.take() == {} and not watch.wanted


def test_the_highest_point_need_not_be_the_last() -> None:
    climb = Climb(lambda x: x.flatten(1).sum(dim=1))
    points = [torch.full((1, 1, 1, 1), value) for value in (0.25, 0.75, 0.5)]
    for point in points:
        climb(point)
    assert climb.gain(points[1], highest=True) == 0.5 == climb.gain(points[1], highest=False)
    assert climb.gain(points[2], highest=False) == 0.25


def test_only_the_embedding_of_that_very_tensor_is_taken() -> None:
    encoder, x = ConvEncoder(), images(2)
    with embedding_of(encoder, x) as found:
        encoder.encode_image(x.clone())
        assert found == []
        z = encoder.encode_image(x)
    assert torch.equal(found[0], z) and not found[0].requires_grad
    with embedding_of(encoder, x, wanted=False) as found:
        encoder.encode_image(x)
    assert found == []
