"""Doubts from a short attack: whether its points keep the rules, exist as pictures, and fool the real defence."""

from __future__ import annotations

import torch
from torch import Tensor

from eval.answers import ATTACK_DRAW, SCORE_DRAW, blamed
from eval.card import Doubt
from eval.checks.answers import MOVED_BY_OTHERS, SHARE_MOVED
from eval.checks.probed import Probed, moved, percent
from eval.health import draws_of
from modules.attacks.apgd import APGD
from modules.attacks.base import Search
from modules.attacks.random_points import RandomPoints
from modules.defenses.base import Undefended, View
from modules.defenses.routes import Route, route
from modules.perturb.losses import margin
from modules.perturb.threat import Threat, per_image

STEPS = 10
WIDER = 4.0  # in eps: where votes are counted, nothing moves in small balls
BETTER = 1.25  # by what factor a gradient beats random points at least; in 100 dimensions honest ones do by 5
MOST_GAINED = 10.0  # standard deviations of the logits: one image does not speak for all
PIECES, HALVINGS = 16, 14  # a piece is halved until it is too short for single precision to see a slope
HEIGHT = 0.1  # of a jump, in standard deviations of the logits
ROUNDING = 1e-6  # of float32 pixels; far below anything that helps an attacker
HIDDEN, WELL_HIDDEN = 0.2, 0.4  # share of images that blunt gradients may fell alone; ten steps are a rough guide
LOST = 0.25  # of the fooled images: a few lie at the very border
ENOUGH = 4  # fooled images, to speak of a share
ANOTHER_CLASS = 0.1  # of the points: a stand-in that answers otherwise more often leads attacks astray
STAND_INS = (View.smooth,)  # a surrogate is another defence by design, and one view of many


def point_doubts(probed: Probed) -> list[Doubt]:
    """All doubts of this file, from ten steps of Auto-PGD on a few images."""
    probed = probed.few
    own = View.eot if probed.defense.random else View.adaptive
    tried = [view for view in probed.defense.views() if view in (own, View.smooth) or view.blunt]
    found = {view: short_attack(probed, view) for view in tried if view is not View.parts}
    if View.parts in tried:
        try:
            found[View.parts] = short_attack(probed, View.parts)
        except ValueError as error:
            probed.unchecked.append(f"Whether the parts show a way that the whole hides: {error}.")
    x_adv = found[own]
    return [
        *masked_doubts(probed, found),
        *useless_doubts(probed, own, x_adv),
        *jump_doubts(probed, x_adv),
        *outside_doubts(probed.judge.plan.threat, probed.batch.x, x_adv),
        *rounding_doubts(probed, x_adv),
        *stand_in_doubts(probed, x_adv),
    ]


def short_attack(probed: Probed, view: View = View.adaptive, threat: Threat | None = None) -> Tensor:
    """[B, C, H, W] points that ten steps along a view's gradient lead to, from nowhere else than the images."""
    threat = threat or probed.judge.plan.threat
    way, batch = route(view, probed.defense), probed.batch
    draws = draws_of(probed.judge, probed.name, way)
    with probed.judge.named(batch, ATTACK_DRAW), blamed(f"a short attack on {probed.name}"):
        attack = APGD(threat, loss="margin", steps=STEPS)
        looks = [probed.classifier(look) for look in way.looks]
        judge = None if way.faithful else probed.classifier()
        return attack.on(Search(looks, batch.x, batch.y, attack.threat, judge=judge, draws=draws))


def masked_doubts(probed: Probed, found: dict[View, Tensor]) -> list[Doubt]:
    """Gradients of the bare encoder find more than the defence's own; found: points [B, C, H, W] of each view.

    An evaluation may hand such points on to attacks through the defence; its numbers then no longer tell.
    """
    y, draw = probed.batch.y, SCORE_DRAW
    clean = probed.logits(draw=draw).argmax(dim=1) == y
    felled = {view: int((clean & (probed.logits(x, draw=draw).argmax(dim=1) != y)).sum()) for view, x in found.items()}
    own = max(count for view, count in felled.items() if not view.blunt)
    for view in (view for view in felled if view.blunt):
        lead = felled[view] - own
        if lead >= max(ENOUGH, HIDDEN * len(y)):
            text = (
                f"{STEPS} steps of the {view.value} view fool {felled[view]} of {int(clean.sum())} images, as many "
                f"steps along the defence's own gradient {own}: that gradient hides the way."
            )
            red = lead >= WELL_HIDDEN * len(y) and not probed.declared  # who declares signs has other views beside
            return [Doubt("masked_gradient", "red" if red else "amber", text)]
    return []


def useless_doubts(probed: Probed, own: View, x_adv: Tensor) -> list[Doubt]:
    """A gradient that gains no more than as many random points of the ball; in the threat's, and in one of 4 eps.

    Args:
        probed: the defense and a few images.
        own: the view that follows its own gradient.
        x_adv: [B, C, H, W] what a short attack through that view found in the threat's ball.
    """
    y, x = probed.batch.y, probed.batch.x
    clean = probed.logits()
    spread = clean.std(dim=1).clamp_min(1e-30)
    for factor in (1.0, WIDER):
        threat = Threat(probed.judge.plan.threat.norm, factor * probed.judge.plan.threat.eps)
        blind = RandomPoints(threat, points=STEPS)
        with probed.judge.named(probed.batch, ATTACK_DRAW), blamed(f"random points on {probed.name}"):
            random = blind.on(Search(probed.classifier(), x, y, threat))
        led, luck = (
            float(((margin(probed.logits(point), y) - margin(clean, y)) / spread).clamp_max(MOST_GAINED).mean())
            for point in (x_adv if factor == 1 else short_attack(probed, own, threat), random)
        )
        if luck > 0 and led <= BETTER * luck:
            text = (
                f"In a ball of {factor:g} eps {STEPS} steps along the defense's gradient raise the margin by "
                f"{led:.2g} standard deviations of the logits, the best of as many random points by {luck:.2g}: the "
                "gradient knows no way."
            )
            return [Doubt("useless_gradient", "red", text)]
    return []


def jump_doubts(probed: Probed, x_adv: Tensor) -> list[Doubt]:
    """Answers that jump on the way from the images to attacked ones x_adv [B, C, H, W]."""
    x, n = probed.batch.x, len(probed.batch)
    spread = probed.logits().std().clamp_min(1e-30)

    def at(share: Tensor) -> Tensor:
        return probed.logits(x + per_image(share, x) * (x_adv - x))

    places = torch.linspace(0, 1, PIECES + 1, device=x.device)
    answers = torch.stack([at(place.expand(n)) for place in places])
    first = (answers[1:] - answers[:-1]).abs().amax(dim=2).argmax(dim=0)  # [B] the piece with the largest change
    low, high = places[first], places[first + 1]
    rows = torch.arange(n, device=x.device)
    before, after = answers[first, rows], answers[first + 1, rows]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        between = at(middle)
        left = (between - before).abs().amax(dim=1) >= (after - between).abs().amax(dim=1)
        low, high = torch.where(left, low, middle), torch.where(left, middle, high)
        before = torch.where(left[:, None], before, between)
        after = torch.where(left[:, None], between, after)
    height = (after - before).abs().amax(dim=1) / spread
    share = float((height > HEIGHT).float().mean())
    if share <= SHARE_MOVED:
        return []
    text = (
        f"On the way from {percent(share)} of the images to attacked ones the answers jump, by up to "
        f"{float(height.max()):.2g} standard deviations of the logits from one point to the next: something switches, "
        "and the gradient on one side says nothing about the other."
    )
    return [Doubt("jumps", "amber", text)]


def outside_doubts(threat: Threat, x: Tensor, x_adv: Tensor) -> list[Doubt]:
    """Points x_adv outside the ball around x or outside the box, measured in double precision; [B, C, H, W]."""
    far = threat.distance(x.double(), x_adv.double()) - threat.eps
    below, above = -x_adv.double().amin(), x_adv.double().amax() - 1
    slack = ROUNDING * (max(1.0, threat.eps) * x[0].numel() ** 0.5 if threat.norm != "linf" else 1.0)
    out = int((far > slack).sum())
    if not out and max(float(below), float(above)) <= ROUNDING and bool(x_adv.isfinite().all()):
        return []
    text = (
        f"{out} of {len(x)} attacked images lie outside the ball, by up to {float(far.max()):.1e}, and pixels leave "
        f"[0, 1] by up to {max(float(below), float(above), 0.0):.1e}: the attack did not keep the rules."
    )
    return [Doubt("outside_threat", "red", text)]


def rounding_doubts(probed: Probed, x_adv: Tensor) -> list[Doubt]:
    """Attacked images that no longer fool once they are stored with 8 bits."""
    threat, y = probed.judge.plan.threat, probed.batch.y
    if threat.norm == "linf" and threat.eps < 1 / 255:
        probed.unchecked.append("Whether attacked images survive being stored: a ball below 1/255 holds one picture.")
        return []
    clean = probed.logits().argmax(dim=1) == y
    fooled = clean & (probed.logits(x_adv).argmax(dim=1) != y)
    if int(fooled.sum()) < ENOUGH:
        probed.unchecked.append(f"Whether attacked images survive being stored: {STEPS} steps fool too few.")
        return []
    stored = threat.rounded(probed.batch.x, x_adv)
    lost = fooled & (probed.logits(stored).argmax(dim=1) == y)
    share = float(lost.sum() / fooled.sum())
    if share <= LOST:
        return []
    text = (
        f"Of {int(fooled.sum())} images that fool the defence, {percent(share)} no longer do once their pixels are "
        "rounded to 8 bits: the number counts pictures that cannot be stored."
    )
    return [Doubt("lost_to_rounding", "amber", text)]


def stand_in_doubts(probed: Probed, x_adv: Tensor) -> list[Doubt]:
    """What attackers differentiate answers otherwise than the defence."""
    defense, doubts = probed.defense, []
    if isinstance(defense, Undefended):
        return []
    for view in defense.views():
        way = route(view, defense)
        if view in (View.adaptive, View.bpda) and way.faithful:
            doubts += _values_differ(probed, view, way)
        elif view in STAND_INS or (view is View.adaptive and not way.faithful):
            doubts += _classes_differ(probed, view, way, x_adv)
    return doubts


def _values_differ(probed: Probed, view: View, way: Route) -> list[Doubt]:
    """A view says that it has the defence's own values; has it?"""
    look = way.looks[0]
    if look is probed.defense:
        return []
    change = moved(probed.logits(), probed.logits(encoder=look))
    share = float((change > MOVED_BY_OTHERS).float().mean())
    if share <= SHARE_MOVED:
        return []
    text = (
        f"The {view.value} view claims the defence's own values, but gives others for {percent(share)} of the images, "
        f"by up to {float(change.max()):.2g} standard deviations of the logits: its attacks take the wrong points."
    )
    return [Doubt("stand_in", "red", text)]


def _classes_differ(probed: Probed, view: View, way: Route, x_adv: Tensor) -> list[Doubt]:
    """A stand-in may have other values; its classes should be the same."""
    x = probed.batch.x
    other = sum(
        (probed.logits(point).argmax(dim=1) != probed.logits(point, encoder=way.looks[0]).argmax(dim=1)).float().mean()
        for point in (x, x_adv)
    )
    share = float(torch.as_tensor(other)) / 2
    if share <= ANOTHER_CLASS:
        return []
    text = (
        f"What the {view.value} view differentiates answers otherwise than the defence on {percent(share)} of clean "
        "and attacked images: its attacks aim beside the mark."
    )
    return [Doubt("stand_in_differs", "amber", text)]
