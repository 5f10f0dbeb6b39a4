"""Doubts from a defence's answers alone: whether they belong to the image, and to nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from scipy.special import betainc
from torch import Tensor

from data.batches import ImageBatch
from eval.answers import ATTACK_DRAW, SCORE_DRAW
from eval.card import Doubt, Health
from eval.checks.probed import Probed, moved, percent
from modules import noise
from modules.defenses.base import Undefended, View

PASSES = 5  # as AutoAttack's own check of randomness
MOVED = 1e-3  # in standard deviations of the logits: rounding stays far below, any real noise above
MOVED_BY_OTHERS = 1e-2  # as MOVED, but other batch sizes round otherwise, and that may flip a defence's gate
MOVED_FAR = 0.2  # no rounding does that, not even to a single image
SHARE_MOVED = 0.1  # of the images: a gate or two may sit on its threshold
LEAKED = 1e-4  # chance of so many right answers about noise
ON_A_SIMPLEX = 1e-4  # how far rows of probabilities may be from 1
STEP = 0.25 / 255  # a quarter of the smallest step of a pixel: no camera sees it, any smooth model does
HALF_LEVEL = 0.5 / 255  # halfway between two pictures of 8 bits
OFF_THE_GRID = 3.0  # a smooth model moves half as far on half the way
FLAT = 0.5  # share of images whose logits do not move by one bit
FEW_CLASSES = 3  # with fewer labels in the batch, one answer for all may be right


def answer_doubts(probed: Probed) -> list[Doubt]:
    """Doubts that a single answer raises."""
    return [*fringe_doubts(probed), *leak_doubts(probed), *scale_doubts(probed), *constant_doubts(probed)]


def comparison_doubts(probed: Probed, health: Sequence[Health] = ()) -> list[Doubt]:
    """Doubts that two answers raise; they mean nothing where the same question gets two answers."""
    return [
        *neighbour_doubts(probed),
        *name_doubts(probed),
        *flat_doubts(probed, health),
        *grid_doubts(probed),
        *idle_doubts(probed),
    ]


def randomness_doubts(probed: Probed) -> list[Doubt]:
    """Noise that is not declared, or is declared and has no effect."""
    first, declared = probed.logits(), probed.defense.random
    again = max(float(moved(first, probed.logits()).max()) for _ in range(PASSES - 1))
    draws = (ATTACK_DRAW + 1, ATTACK_DRAW + 2, SCORE_DRAW, SCORE_DRAW + 1)
    other = max(float(moved(first, probed.logits(draw=draw)).max()) for draw in draws)
    if again > MOVED:
        severity = "amber" if declared else "red"
        text = (
            f"{PASSES} passes over the same images under the same noise differ by up to {again:.2g} standard "
            "deviations of the logits: the defence draws from a generator of its own, and its numbers cannot be "
            "repeated" + ("." if declared else "; attackers were not averaged over that noise.")
        )
        return [Doubt("hidden_randomness", severity, text)]
    if other > MOVED and not declared:
        text = (
            f"The defence does not say that it is random, but its logits move by {other:.2g} standard deviations "
            "with the draw of the noise: it was scored on one draw, and attackers were not averaged over draws."
        )
        return [Doubt("undeclared_randomness", "red", text)]
    if other <= MOVED and declared:
        text = "The defence says that it is random, but no draw of the noise changes its answers."
        return [Doubt("idle_randomness", "amber", text)]
    return []


def neighbour_doubts(probed: Probed) -> list[Doubt]:
    """Answers that change with the images beside, their order, or their number."""
    if probed.defense.artefact and probed.defense.group > 1:
        return []  # the artefact's own label says so
    if probed.streamed:
        probed.unchecked.append("Whether images change one another's answers: the model adapts over each batch.")
        return []
    whole = probed.logits()
    for what, rows, other in _rearranged(probed):
        try:
            change = moved(whole[rows], other.logits()[: len(rows)])
        except ValueError as error:
            return [Doubt("batch_coupled", "red", f"The defence fails on images {what}: {error}.")]
        if moved_by_others(change):
            text = (
                f"The answers of {int((change > MOVED_BY_OTHERS).sum())} of {len(change)} images change, by up to "
                f"{float(change.max()):.2g} standard deviations of the logits, when they are looked at {what}: the "
                "number depends on which images happen to be attacked and scored together."
            )
            return [Doubt("batch_coupled", "red", text)]
    return []


def moved_by_others(change: Tensor) -> bool:
    """Whether answers moved, by change [B], more than rounding in another batch and a gate or two explain."""
    return float(change.max()) > MOVED_FAR or float((change > MOVED_BY_OTHERS).float().mean()) > SHARE_MOVED


def _rearranged(probed: Probed) -> Iterator[tuple[str, list[int], Probed]]:
    """Other ways to batch the images: in words, which images, and they themselves, perhaps followed by others."""
    batch, n = probed.batch, len(probed.batch)
    backwards = list(range(n))[::-1]
    yield "in another order", backwards, probed.about(batch.select(backwards))
    yield "alone", [0], probed.about(batch.select([0]))
    yield "alone", [n - 1], probed.about(batch.select([n - 1]))
    for half in (list(range(0, n, 2)), list(range(1, n, 2))):
        if half:
            yield "with half of the others", half, probed.about(batch.select(half))
    size = probed.judge.plan.config.batch_size
    if size > n and len(probed.judge.task) > n:
        more = next(probed.judge.task.whole_batches(size)).to(batch.x.device)
        if more.key[:n] == batch.key:
            yield f"in a batch of {len(more)}, as the evaluation's", list(range(n)), probed.about(more)
    grey = torch.full_like(batch.x, 0.5)
    padding = ImageBatch(grey, batch.y, tuple(f"padding/{key}" for key in batch.key))
    x, y = torch.cat([batch.x, padding.x]), torch.cat([batch.y, padding.y])
    yield "in a padded batch", list(range(n)), probed.about(ImageBatch(x, y, batch.key + padding.key))


def name_doubts(probed: Probed) -> list[Doubt]:
    """Answers of a defence without noise that change with the images' names."""
    if probed.defense.random:
        return []
    batch = probed.batch
    renamed = ImageBatch(batch.x, batch.y, tuple(f"renamed/{key}" for key in batch.key))
    change = float(moved(probed.logits(), probed.about(renamed).logits()).max())
    if change <= MOVED:
        return []
    text = (
        f"The logits move by {change:.2g} standard deviations when the same images bear other names, although the "
        "defence does not say that it is random: it knows something about the images that is not in their pixels."
    )
    return [Doubt("reads_names", "red", text)]


def fringe_doubts(probed: Probed) -> list[Doubt]:
    """Answers that are not finite numbers, on images that any model meets."""
    x = probed.batch.x
    with probed.judge.named(probed.batch, ATTACK_DRAW):
        images = {"the images": x, "black": x * 0, "white": x * 0 + 1, "grey": x * 0 + 0.5, "noise": _noise(x)}
    for what, image in images.items():
        try:
            answers = probed.logits(image)
        except ValueError as error:
            return [Doubt("not_finite", "red", f"The defence fails on {what} ({error}).")]
        bad = float((~answers.isfinite().all(dim=1)).float().mean())
        if bad:
            text = (
                f"{percent(bad)} of the answers about {what} are not finite numbers; nobody can score or attack them."
            )
            return [Doubt("not_finite", "red", text)]
    return []


def leak_doubts(probed: Probed) -> list[Doubt]:
    """The right answer about images that show nothing but noise."""
    y = probed.batch.y
    with probed.judge.named(probed.batch, ATTACK_DRAW):
        images = _noise(probed.batch.x)
    predicted = probed.logits(images).argmax(dim=1)
    hits = int((predicted == y).sum())
    classes = range(len(probed.judge.task.classes))
    luck = sum(float((predicted == c).float().mean() * (y == c).float().mean()) for c in classes)
    by_chance = float(betainc(hits, len(y) - hits + 1, luck)) if hits else 1.0  # Pr[Binomial(n, luck) >= hits]
    if by_chance >= LEAKED:
        return []
    text = (
        f"Shown pure noise under the images' names, the defence answers {hits} of {len(y)} with the images' labels, "
        f"where chance gives {luck * len(y):.0f}: the labels reach it beside the pixels."
    )
    return [Doubt("label_leak", "red", text)]


def scale_doubts(probed: Probed) -> list[Doubt]:
    """Probabilities where logits belong."""
    logits = probed.logits()
    on_simplex = (logits.sum(dim=1) - 1).abs().max() < ON_A_SIMPLEX and logits.min() >= -ON_A_SIMPLEX
    if not on_simplex or logits.shape[1] < 2:
        return []
    text = (
        "The logits are probabilities: not negative, and each row sums to 1. A softmax over them is nearly uniform, "
        "and the gradient of losses that expect logits is too small and points elsewhere."
    )
    return [Doubt("probabilities", "red", text)]


def constant_doubts(probed: Probed) -> list[Doubt]:
    """The same answer whatever the image."""
    predicted, labels = probed.logits().argmax(dim=1), probed.batch.y.unique()
    if len(labels) < FEW_CLASSES or len(predicted.unique()) > 1:
        return []
    said = probed.judge.task.classes[int(predicted[0])]
    text = (
        f"All {len(predicted)} images, of {len(labels)} classes, get the answer {said!r}: a defence that does not look "
        "cannot be attacked, and its accuracy is no robustness."
    )
    return [Doubt("same_answer", "red", text)]


def flat_doubts(probed: Probed, health: Sequence[Health] = ()) -> list[Doubt]:
    """Answers that do not move by one bit where the pixels move a little."""
    x, first = probed.batch.x, probed.logits()
    still = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for k in range(3):
        with probed.judge.named(probed.batch, ATTACK_DRAW):
            signs = 2.0 * (noise.uniform(x, f"checks/flat/{k}") < 0.5) - 1
        still &= (probed.logits((x + STEP * signs).clamp(0.0, 1.0)) == first).all(dim=1)
    share = float(still.float().mean())
    if share <= FLAT:
        return []
    alive = any(h.view == View.adaptive and h.dead <= FLAT for h in health)
    text = (
        f"The answers of {percent(share)} of the images do not change by one bit when every pixel moves by a quarter "
        "of an 8-bit step: something rounds or picks the nearest, and differences of values lead attackers nowhere."
    )
    return [Doubt("flat_answers", "amber" if alive else "red", text)]


def idle_doubts(probed: Probed) -> list[Doubt]:
    """A defence that gives the bare encoder's answers."""
    if isinstance(probed.defense, Undefended) or probed.bare is probed.defense:
        return []
    bare = probed.logits(encoder=probed.bare)
    if (moved(bare, probed.logits()) > 0).any():
        return []
    text = (
        f"The defence gives the bare encoder's answers about all {len(probed.batch)} images: it never acts on them, "
        "and what is robust here is the encoder."
    )
    return [Doubt("idle_defence", "amber", text)]


def grid_doubts(probed: Probed) -> list[Doubt]:
    """Answers that move when pixels leave the grid of grey levels, more than when they move along it."""
    x, first = probed.batch.x, probed.logits()
    with probed.judge.named(probed.batch, ATTACK_DRAW):
        signs = 2.0 * (noise.uniform(x, "checks/grid") < 0.5) - 1
    levels = [probed.logits((x + step * signs).clamp(0.0, 1.0)) for step in (HALF_LEVEL, 2 * HALF_LEVEL)]
    off, along = (moved(first, logits) for logits in levels)
    watched = (off > MOVED_FAR) & (off > OFF_THE_GRID * along)
    share = float(watched.float().mean())
    if share <= SHARE_MOVED:
        return []
    text = (
        f"Moving every pixel by half a grey level changes the answers about {percent(share)} of the images, by up to "
        f"{float(off.max()):.2g} standard deviations of the logits, more than moving them by a whole level does: the "
        "defense looks at whether pixels lie on the grid of 8 bits."
    )
    return [Doubt("watches_pixels", "red", text)]


def _noise(x: Tensor) -> Tensor:
    return noise.uniform(x, "checks/noise")
