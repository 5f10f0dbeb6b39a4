from __future__ import annotations

import torch

from data.sample import CLASSES, TEMPLATES
from eval.perceptual.legible import Reading
from eval.perceptual.looked_into import into_another, out_of_grey
from modules.encoders import load_clip
from modules.perceptual.inversion import Inverting
from modules.zero_shot import zero_shot_head
from tests.eval.perceptual.digit_pictures import TEST, TRAIN

HOW = Inverting(radius=3.0, steps=2, looks=1)


def test_names_come_out_of_grey_and_digits_are_never_asked_for_themselves() -> None:
    clip = load_clip("tiny")
    assert clip.text is not None
    head = zero_shot_head(clip.text, list(CLASSES), list(TEMPLATES), logit_scale=clip.logit_scale)
    reading = Reading((TRAIN[0][:100], TRAIN[1][:100]), TEST)
    encoders = {"one": clip.image, "the same": clip.image}
    grey = out_of_grey(encoders, head, reading, HOW, seeds=2)
    assert grey.asked.tolist() == [*range(10), *range(10)] and (grey.start == 0.5).all() and (grey.was == -1).all()
    assert torch.equal(grey.found["one"].x, grey.found["the same"].x)  # same start, same looks
    assert not torch.equal(grey.found["one"].x[0], grey.found["one"].x[10])  # a second seed has looks of its own
    assert grey.legible["one"].n == 20 and len(grey.found["one"].snapshots) >= 2
    x, y = TEST[0][:18], TEST[1][:18]
    changed = into_another(encoders, head, reading, HOW, x, y)
    assert (changed.asked != y).all() and ((changed.asked - y) % 10).tolist() == [*range(1, 10), *range(1, 10)]
    assert (changed.found["one"].x - x).flatten(1).norm(dim=1).max() <= 3 + 1e-4
    assert set(changed.said) == set(encoders) and len(changed.said["one"]) == 18
