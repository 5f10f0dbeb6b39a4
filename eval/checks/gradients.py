"""Doubts about a defence's gradients: gone, too small for the arithmetic, untrue, or only there when nobody looks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from eval.answers import ATTACK_DRAW, blamed
from eval.card import Doubt, Health
from eval.checks.answers import MOVED_BY_OTHERS, SHARE_MOVED
from eval.checks.probed import Probed, moved, percent
from eval.health import TINY, gradient
from modules.defenses.base import View
from modules.defenses.routes import route
from modules.perturb.losses import cross_entropy
from modules.views import is_view

DEAD = 0.1  # of the images: a dead unit may cost one, a cut gradient costs nearly all
ZEROS = 0.5  # of the pixels: a crop may leave a border out
SMALL, LARGE = 1e-3, 1e3  # in bare gradients: honest purifiers stay within a factor of ten
UNTRUE = 0.5  # of the slopes found; honest ones are below 0.1 in single precision
REVERSED = -0.3  # cosine: no purifier turns the encoder's sense round
SIDEWAYS = 0.02  # cosine: noise has about one over the square root of the number of pixels
LOUDER = 2.0**16  # what losses are scaled by where half precision trains: what underflowed comes back
RECOVERED = 0.1  # change, of gradient or of zeros, that scaling may make: none at all in single precision
SATURATED = 0.1  # of the images


def health_doubts(probed: Probed, health: Sequence[Health]) -> list[Doubt]:
    """Doubts that the measured gradients raise by themselves."""
    doubts: list[Doubt] = []
    for seen in health:
        doubts += size_doubts(seen) or [*_truth_doubts(probed, seen), *_direction_doubts(seen)]
    return doubts


def size_doubts(seen: Health) -> list[Doubt]:
    """Gradients that are not there."""
    severity = "red" if is_view(seen.view, "exact") else "amber"
    whose = f"the {seen.view} view"
    if seen.not_finite > 0:
        text = f"The gradient of {whose} is not finite for {percent(seen.not_finite)} of the images."
        return [Doubt("infinite_gradient", severity, text)]
    if seen.dead == 1:
        text = f"No gradient at all reaches the pixels through {whose}: attacks that follow it do not move."
        return [Doubt("no_gradient", severity, text)]
    if seen.dead > 0:
        found = f"The gradient of {whose} is exactly zero for {percent(seen.dead)} of the images"
        text = f"{found}: attacks that follow it do not move there."
        return [Doubt("zero_gradient", severity if seen.dead >= DEAD else "amber", text)]
    if is_view(seen.view, "blunt"):
        return []  # its length is the bare encoder's, and means nothing next to values of another scale
    if seen.norm_ratio < SMALL:
        found = f"The gradient of {whose} has {seen.norm_ratio:.1e} of the bare encoder's length"
        text = f"{found}: it says next to nothing about where the answer changes."
        return [Doubt("tiny_gradient", severity, text)]
    if seen.norm_ratio > LARGE:
        found = f"The gradient of {whose} is {seen.norm_ratio:.1e} times as long as the bare encoder's"
        text = f"{found}: the defence is too rugged for steps along it."
        return [Doubt("exploding_gradient", "amber", text)]
    if seen.zeros > ZEROS:
        text = f"The gradient of {whose} is exactly zero at {percent(seen.zeros)} of the pixels."
        return [Doubt("sparse_gradient", "amber", text)]
    return []


def _truth_doubts(probed: Probed, seen: Health) -> list[Doubt]:
    """Gradients that do not foretell how the values change."""
    if not is_view(seen.view, "exact") or seen.difference_error <= UNTRUE:
        return []
    text = (
        f"Along random directions the defence's values change otherwise than the gradient of the {seen.view} view "
        f"foretells, by {percent(seen.difference_error)} of the slope: "
    )
    if probed.declared:
        return [Doubt("wrong_gradient", "amber", text + "it has signs or gates, and the gradient stands in for them.")]
    return [Doubt("wrong_gradient", "red", text + "it is not the gradient of what is computed.")]


def _direction_doubts(seen: Health) -> list[Doubt]:
    """Gradients that lead elsewhere than the encoder's."""
    if not is_view(seen.view, "exact"):
        return []
    if seen.cosine_bare < REVERSED:
        text = (
            f"The gradient of the {seen.view} view points against the bare encoder's (cosine {seen.cosine_bare:.2f}): "
            "attacks that follow it walk away from what fools the encoder."
        )
        return [Doubt("reversed_gradient", "red", text)]
    if max(abs(seen.cosine_bare), abs(seen.cosine_bpda or 0.0)) < SIDEWAYS:
        text = (
            f"The gradient of the {seen.view} view has nothing in common with the bare encoder's (cosine "
            f"{seen.cosine_bare:.3f}); compare its numbers with those of the transfer and bpda views."
        )
        return [Doubt("sideways_gradient", "amber", text)]
    return []


def gradient_doubts(probed: Probed) -> list[Doubt]:
    """Doubts that take further gradients: of scaled and of saturating losses, and of whether somebody looks."""
    probed = probed.few
    way = route(View.adaptive, probed.defense)
    with probed.judge.named(probed.batch, ATTACK_DRAW), blamed(f"the gradient of {probed.name}"):
        plain = gradient(probed.judge, way, probed.batch)
        louder = gradient(probed.judge, way, probed.batch, scale=LOUDER)
        entropy = gradient(probed.judge, way, probed.batch, loss=cross_entropy)
    return [
        *underflow_doubts(plain, louder),
        *saturation_doubts(plain, entropy, _heeds_no_scale(probed)),
        *watching_doubts(probed),
    ]


def underflow_doubts(plain: torch.Tensor, louder: torch.Tensor) -> list[Doubt]:
    """A gradient [B, C, H, W] that is another one once the loss was scaled up before, and down again after."""
    finite = (plain.isfinite() & louder.isfinite()).flatten(1).all(dim=1)
    if not finite.any():
        return []
    one, other = plain[finite].double().flatten(1), louder[finite].double().flatten(1)
    change = float(((one - other).norm(dim=1) / other.norm(dim=1).clamp_min(TINY)).median())
    woken = float((one == 0).double().mean() - (other == 0).double().mean())
    if max(change, woken) <= RECOVERED:
        return []
    text = (
        f"Scaling the loss by 2^16 changes the direction that attacks get by {percent(min(change, 1.0))} and wakes "
        f"{percent(max(woken, 0.0))} of the pixels: gradients underflow in half precision on their way back."
    )
    return [Doubt("underflow", "red", text)]


def _heeds_no_scale(probed: Probed) -> bool:
    """Whether an attack through the defense ascends a loss that heeds no scale of the logits."""
    plan, own = probed.judge.plan, (cell for cell in probed.judge.cells if cell.defense == probed.name)
    return any(plan.attacks[cell.attack].attack.scale_free for cell in own if is_view(cell.view, "own"))


def saturation_doubts(plain: torch.Tensor, entropy: torch.Tensor, judged: bool) -> list[Doubt]:
    """Cross-entropy without a gradient [B, C, H, W] where the margin has one.

    Args:
        plain: the margin's.
        entropy: the cross-entropy's.
        judged: attacks that heed no scale of the logits were run, and decide.
    """
    blind = (entropy == 0).flatten(1).all(dim=1) & (plain != 0).flatten(1).any(dim=1)
    share = float(blind.float().mean())
    if share <= SATURATED:
        return []
    text = (
        f"The logits of {percent(share)} of the images are so far apart that the softmax is exactly one and zero: the "
        "gradient of the cross-entropy is zero there, though the margin's is not, and attacks by it are blind"
    )
    end = "; those that heed no scale of the logits have decided." if judged else ", and no other was tried."
    return [Doubt("saturated_logits", "amber" if judged else "red", text + end)]


def watching_doubts(probed: Probed) -> list[Doubt]:
    """Other values when somebody wants a gradient, or when nobody ever can (``torch.inference_mode``)."""
    before = probed.logits()
    with torch.inference_mode():
        deployed = probed.logits(probed.batch.x.clone()).clone()
    share = float((moved(before, deployed) > MOVED_BY_OTHERS).float().mean())
    if share > SHARE_MOVED:
        text = (
            f"Under torch.inference_mode, as models are deployed, the defense gives other answers about "
            f"{percent(share)} of the images than under torch.no_grad: what was evaluated is not what users meet."
        )
        return [Doubt("watches_gradients", "red", text)]
    with probed.judge.named(probed.batch, ATTACK_DRAW), blamed(probed.name), torch.enable_grad():
        after = probed.classifier()(probed.batch.x.detach().clone().requires_grad_()).detach().float()
    change = moved(before, after)
    share = float((change > MOVED_BY_OTHERS).float().mean())
    if share <= SHARE_MOVED:
        return []
    text = (
        f"When a gradient is asked for, the defence gives other answers about {percent(share)} of the images, by up to "
        f"{float(change.max()):.2g} standard deviations of the logits: attackers meet another defence than users."
    )
    return [Doubt("watches_gradients", "red", text)]
