from __future__ import annotations

import copy

import torch

from modules.encoders import load_clip
from modules.encoders.fingerprint import fingerprint


def test_equal_encoders_have_one_name() -> None:
    encoder = load_clip("tiny").image
    assert fingerprint(encoder) == fingerprint(copy.deepcopy(encoder)) == fingerprint(encoder.eval())
    assert len(fingerprint(encoder)) == 16


def test_the_smallest_change_of_a_weight_shows() -> None:
    encoder = load_clip("tiny").image
    before = fingerprint(encoder)
    with torch.no_grad():
        weight = next(encoder.parameters()).view(-1)
        weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
    assert fingerprint(encoder) != before


def test_what_is_done_to_pixels_first_shows() -> None:
    encoder = load_clip("tiny").image
    names = {fingerprint(encoder)}
    for name in ("mean", "std"):
        other = copy.deepcopy(encoder)
        getattr(other, name)[0, 1] += 1e-3
        names.add(fingerprint(other))
    other = copy.deepcopy(encoder)
    other.image_size = 64
    assert len(names | {fingerprint(other)}) == 4
