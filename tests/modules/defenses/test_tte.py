"""TTE: which looks, and what their mean decides."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from modules.defenses.tte import TTE, crop
from tests.modules.toys import ConvEncoder, head, images


def test_a_crop_shows_zeros_beyond_the_border() -> None:
    x = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    assert crop(x, (0, 2), 1)[0, 0].tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]
    assert torch.equal(crop(x, (1, 1), 1), x)


def test_there_are_ten_looks_and_the_release_had_four() -> None:
    x, seed = images(1, 32), 3
    honest, legacy = (TTE(ConvEncoder(size=32), seed=seed, legacy_bug=bug) for bug in (False, True))
    assert honest.pad == 4
    assert len(honest.looks(x)) == len(legacy.looks(x)) == 10
    assert len({tuple(look.flatten().tolist()) for look in honest.looks(x)}) == 10
    assert len({tuple(look.flatten().tolist()) for look in legacy.looks(x)}) == 4
    assert legacy.origins[0] == honest.origins[-1]
    assert (honest.artefact, legacy.artefact) == ("", "tte-legacy")


def test_looks_can_be_left_out() -> None:
    x, encoder = images(2), ConvEncoder()
    assert len(TTE(encoder, flip=False, crops=2, flip_crops=False).looks(x)) == 3
    assert len(TTE(encoder, crops=0, blur=1.0).looks(x)) == 3
    alone = TTE(encoder, flip=False, crops=0)
    assert torch.allclose(alone.encode_image(x), F.normalize(encoder.encode_image(x), dim=1))


def test_origins_are_drawn_once_by_the_seed_within_the_padding() -> None:
    origins = [TTE(ConvEncoder(size=32), crops=50, seed=seed).origins for seed in (0, 0, 1)]
    assert origins[0] == origins[1] != origins[2]
    values = [value for origin in origins[0] for value in origin]
    assert set(values) == set(range(9))  # 2 * pad and both ends


def test_the_mean_embedding_decides_as_the_mean_of_logits() -> None:
    encoder, x = ConvEncoder().double(), images(64).double()
    tte, classify = TTE(encoder), head(16).double()
    mean = torch.stack([classify(encoder.encode_image(look)) for look in tte.looks(x)]).mean(dim=0)
    found = classify(tte.encode_image(x))
    assert torch.equal(found.argmax(dim=1), mean.argmax(dim=1))
    assert torch.allclose(F.normalize(found, dim=1), F.normalize(mean, dim=1))  # up to a common scale


def test_contradictory_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"pad in \[0, 1\)"):
        TTE(ConvEncoder(), pad=1.5)
