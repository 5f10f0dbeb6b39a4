"""Attacked images looked at again: the worse counts, and what falls only then is doubted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from eval.checks.numbers import recheck_doubts
from eval.harness import evaluate
from eval.outcomes import Cell, Outcomes
from eval.rechecks import AFRESH, ROUNDED
from eval.rows import Subject
from modules.attacks.apgd import APGD
from modules.attacks.random_points import RandomPoints
from modules.attacks.square import Square
from modules.defenses.base import Defense, Undefended
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat
from tests.eval.toy_world import COUNT, THREAT, Reader, pictures, toy_plan

APART = Cell("planted", "apgd", "adaptive", THREAT.eps)


class Remembers(Defense):
    """Answers whatever resembles an image seen before as it answered then."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        self.seen: tuple[Tensor, Tensor] | None = None

    def encode_image(self, x: Tensor) -> Tensor:
        z = self.encoder.encode_image(x)
        if self.seen is None:
            self.seen = x.detach().clone(), z.detach().clone()
        images, answers = self.seen
        distance, nearest = (x.detach().flatten(1)[:, None] - images.flatten(1)[None]).abs().amax(dim=2).min(dim=1)
        return torch.where((distance < 1.5 * THREAT.eps)[:, None], answers[nearest] + 1e-3 * z, z)


class WatchesPixels(Remembers):
    """The fragile encoder for pictures of 8 bits, what is known of the clean ones for anything else."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        clean = torch.stack([sample.x for sample in map(pictures().__getitem__, range(COUNT))])
        self.seen = clean, encoder.encode_image(clean).detach()

    def encode_image(self, x: Tensor) -> Tensor:
        off = ((x * 255 - (x * 255).round()).abs() > 0.02).flatten(1).any(dim=1)
        return torch.where(off[:, None], super().encode_image(x), self.encoder.encode_image(x))


def outcomes_of(make: Callable[[ImageEncoder], Defense], *settings: str, voice: str = "whisper") -> Outcomes:
    encoder = Reader("whisper" if voice == "whisper" else "loud").freeze()
    plan = toy_plan(encoder, make(encoder), "rechecks=[rounded, afresh]", *settings, apgd=APGD(THREAT, steps=15))
    return evaluate(encoder, plan, Subject("toy"), quiet=True).outcomes["toy"]


def test_a_defense_that_remembers_falls_to_the_points_shown_to_an_untouched_copy() -> None:
    found = outcomes_of(Remembers)
    assert sum(found.robust([APART], rechecks=())) > 100
    assert sum(found.robust([APART])) == sum(found.robust([APART], rechecks=(AFRESH,))) < 10
    assert ("remembers", "red") in [(d.name, d.severity) for d in recheck_doubts(found, [APART])]


def test_a_defense_that_watches_the_grid_of_grey_levels_falls_to_rounded_points() -> None:
    encoder, threat = Reader("whisper").freeze(), Threat("linf", THREAT.eps - 0.5 / 255)  # corners are off the grid
    plan = toy_plan(encoder, WatchesPixels(encoder), "rechecks=[rounded, afresh]", apgd=APGD(threat, steps=15))
    plan.threat = threat
    found = evaluate(encoder, plan, Subject("toy"), quiet=True).outcomes["toy"]
    cell = replace(APART, eps=threat.eps)
    assert sum(found.robust([cell], rechecks=())) > sum(found.robust([cell], rechecks=(ROUNDED,))) + 20
    assert ("watches_pixels", "red") in [(d.name, d.severity) for d in recheck_doubts(found, [cell])]


@pytest.mark.parametrize("voice", ["loud", "whisper"])
def test_an_honest_encoder_is_as_robust_looked_at_again(voice: str) -> None:
    found = outcomes_of(Undefended, voice=voice)
    assert found.robust([APART]) == found.robust([APART], rechecks=())
    assert recheck_doubts(found, [APART]) == []


def test_attacks_go_on_with_images_that_fell_only_when_looked_at_again() -> None:
    encoder = Reader("whisper").freeze()
    attacks = {"apgd": APGD(THREAT, steps=15), "square": Square(THREAT, queries=50)}
    plan = toy_plan(encoder, Remembers(encoder), "rechecks=[afresh]", "cascade=all", **attacks)
    found = evaluate(encoder, plan, Subject("toy"), quiet=True).outcomes["toy"]
    square = Cell("planted", "square", "query", THREAT.eps)
    assert sum(found.draws[square][0]) > 100  # as found nothing had fallen, so that nothing was left out


def test_noise_is_shown_for_itself_and_leaves_nothing_out() -> None:
    encoder = Reader("whisper").freeze()
    attacks = {"noise": RandomPoints(THREAT), "apgd": APGD(THREAT, steps=15)}
    plan = toy_plan(encoder, Undefended(encoder), "cascade=all", **attacks)
    cells = [cell for cell in evaluate(encoder, plan, Subject("toy"), quiet=True).outcomes["toy"].draws]
    assert {(cell.attack, cell.view) for cell in cells if cell.defense == "planted"} == {
        ("none", "none"),
        ("noise", "control"),
        ("apgd", "adaptive"),
    }


def test_what_cannot_be_copied_is_told_and_judged_all_the_same() -> None:
    class Stubborn(Undefended):
        def __deepcopy__(self, memo: object) -> Stubborn:
            raise TypeError("holds an open file")

    from tests.eval.toy_world import toy_judge

    encoder = Reader("whisper").freeze()
    judge, _ = toy_judge(encoder, Stubborn(encoder))
    judge.plan.config = replace(judge.plan.config, rechecks=["afresh"])
    again = type(judge)(encoder, judge.plan, judge.task, Subject("toy"))
    assert again.rechecks.uncopied == {"planted": "TypeError: holds an open file"}
    assert again.rechecks.fresh("planted") is None and again.rechecks.fresh("none") is not None


def test_the_worse_of_a_recheck_counts_in_every_draw_and_survives_writing_joining_and_choosing() -> None:
    clean, hit = Cell("a"), Cell("a", "pgd", "adaptive", 0.1)
    found = Outcomes(["x", "y"], {clean: [[True, True]], hit: [[True, True]]}, {clean: 0.0, hit: 0.0})
    found.rechecks[hit] = {"rounded": [[True, False]]}
    assert found.robust([hit]) == [True, False] and found.robust([hit], rechecks=()) == [True, True]
    restored = Outcomes.from_json(found.to_json())
    assert restored.rechecks == found.rechecks
    restored.extend(found)
    assert restored.rechecks[hit] == {"rounded": [[True, False, True, False]]}
    assert restored.select([1, 2]).robust([hit]) == [False, True]
    restored.keep([clean])
    assert restored.rechecks == {}
    broken = found.to_json()
    broken["cells"][str(hit)]["rechecks"] = {"rounded": ["1"]}
    with pytest.raises(ValueError, match="differ in number"):
        Outcomes.from_json(broken)
