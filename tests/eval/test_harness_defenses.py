"""What the harness does to defences and to the encoder, and what it keeps from the attacker."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from eval.answers import SCORE_DRAW
from eval.harness import evaluate
from eval.plan import Plan
from eval.rows import Subject
from modules import noise
from modules.attacks.pgd import PGD
from modules.defenses.base import Defense
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIP
from modules.perturb.losses import Loss

Planned = Callable[..., Plan]
CLIP_ITSELF = Subject("CLIP")


def behind(plan: Plan, *defenses: Callable[[ImageEncoder], Defense]) -> Plan:
    """The plan with other defences under the names of its own."""
    made = dict(zip(plan.config.defenses, defenses, strict=True))
    return replace(plan, defend=lambda name, encoder, task: made[name](encoder))


class Spy(Defense):
    """Does nothing, and remembers every batch it saw with the draw of the noise that held there."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        self.seen: list[tuple[int, Tensor]] = []

    def purify_pixels(self, x: Tensor) -> Tensor:
        scope = noise.scope()
        assert scope is not None
        self.seen.append((scope.draw, x.detach().clone()))
        return x

    def scored(self) -> list[Tensor]:
        return [x for draw, x in self.seen if draw == SCORE_DRAW]


class RandomSpy(Spy):
    random = True


class NotANumber(Defense):
    def purify_latent(self, z: Tensor) -> Tensor:
        return z / 0 * 0


class Short(Defense):
    def purify_latent(self, z: Tensor) -> Tensor:
        return z[:, 1:]


class Lost(Defense):
    def purify_latent(self, z: Tensor) -> Tensor:
        return z[1:]


class Raises(Defense):
    """Fails half-way: on adversarial images only."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            raise IndexError("no such page")
        return x


class BrokenGradient(Defense):
    """Sound until somebody follows its gradient."""

    def purify_latent(self, z: Tensor) -> Tensor:
        return z * torch.nan if torch.is_grad_enabled() else z


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (NotANumber, "NotANumber: returned embeddings that are not finite"),
        (Short, r"Short: returned \[20, 127\] instead of embeddings \[B, 128\]"),
        (Lost, r"Lost: returned logits \[19, 10\] that are not \[20, 10\] finite numbers"),
        (Raises, r"apgd on broken \(adaptive\): IndexError: no such page"),
        (BrokenGradient, r"apgd on broken \(adaptive\): .* not finite"),
    ],
)
def test_a_defence_that_returns_nonsense_is_named_in_one_line(
    broken: type[Defense], said: str, clip: CLIP, planned: Planned
) -> None:
    tiny = "threat.eps=0.0001"  # in which images stand long enough for somebody to follow their gradient
    plan = behind(planned("defenses={broken: {name: none}}", tiny), broken)
    with pytest.raises(ValueError, match=said) as caught:
        evaluate(clip.image, plan, CLIP_ITSELF)
    assert "\n" not in str(caught.value)


class ModeSpy(Spy):
    """Fails where the encoder that it defends is not frozen."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        assert not any(module.training for module in self.encoder.modules())
        assert not any(parameter.requires_grad for parameter in self.encoder.parameters())
        return super().purify_pixels(x)


def test_the_encoder_is_frozen_while_it_is_judged(clip: CLIP, planned: Planned) -> None:
    encoder = copy.deepcopy(clip.image).train()
    spy = ModeSpy(encoder)
    evaluate(encoder, behind(planned("defenses={spied: {name: none}}"), lambda _: spy), CLIP_ITSELF)
    assert len(spy.seen) > 4


@pytest.mark.parametrize("fails", [False, True])
def test_the_encoder_is_left_as_it_was(fails: bool, clip: CLIP, planned: Planned) -> None:
    encoder = copy.deepcopy(clip.image).train()
    next(encoder.parameters()).requires_grad_(False)
    encoder.visual.ln_post.eval()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    plan = planned("defenses={none: {}}")

    def state() -> list[bool]:
        return [m.training for m in encoder.modules()] + [p.requires_grad for p in encoder.parameters()]

    before = state()
    assert len(set(before)) == 2
    if fails:
        with pytest.raises(ValueError, match="not finite"):
            evaluate(encoder, behind(plan, NotANumber), CLIP_ITSELF)
    else:
        evaluate(encoder, plan, CLIP_ITSELF)
    assert state() == before
    assert all(p.grad is None for p in encoder.parameters())


class Counted(PGD):
    runs = 0

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        self.runs += 1
        return super()._perturb(loss, x, stream)


def test_an_attack_on_the_bare_encoder_is_made_once_and_shared_by_all_defences(clip: CLIP, planned: Planned) -> None:
    plan = planned("defenses={one: {name: none}, two: {name: none}, three: {name: none}}", "views=[transfer]")
    attack = Counted(plan.threat, steps=2)
    plan = replace(plan, attacks={"counted": replace(plan.attacks["apgd"], attack=attack)})
    spies = [Spy(clip.image) for _ in range(3)]
    evaluate(clip.image, behind(plan, *(lambda encoder, s=s: s for s in spies)), CLIP_ITSELF)
    looks = [spy.scored() for spy in spies]
    assert [len(look) for look in looks] == [2, 2, 2]  # clean, and attacked
    assert not torch.equal(*looks[0])
    for one, other in pairwise(looks):
        assert torch.equal(one[1], other[1])
    assert attack.runs == 1


def test_the_attacker_never_sees_the_noise_that_it_is_scored_on(clip: CLIP, planned: Planned) -> None:
    plan = planned("defenses={spied: {name: none}}", "views=[adaptive, eot]")
    spy = RandomSpy(clip.image)
    evaluate(clip.image, behind(plan, lambda encoder: spy), CLIP_ITSELF)
    draws = [draw for draw, _ in spy.seen]
    for k in range(5):
        assert draws.count(SCORE_DRAW + k) >= 3  # one look each: clean, adaptive, eot
    attacks = {draw for draw in draws if draw < SCORE_DRAW}
    assert {0, 1, 2, 3} < attacks and max(draws) == SCORE_DRAW + 4  # adaptive stays at draw 0, eot goes on
    x = torch.zeros(2, 3)
    with noise.samples(torch.arange(2), draw=0):
        attacked = noise.uniform(x, "any")
    with noise.samples(torch.arange(2), draw=SCORE_DRAW):
        assert not torch.equal(attacked, noise.uniform(x, "any"))
