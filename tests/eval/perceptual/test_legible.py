from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eval.perceptual.legible import PixelReaders, Reading, directions_of, likeness, strokes
from modules.perceptual.inversion import Inversion
from tests.eval.perceptual.digit_pictures import TEST, TRAIN


def noisy(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_readers_read_held_out_digits_whatever_their_contrast_and_no_noise() -> None:
    readers = PixelReaders(TRAIN[0], TRAIN[1].tolist())
    for x in (TEST[0], 0.4 + 0.2 * TEST[0]):
        assert all((said == TEST[1]).float().mean() > 0.95 for said in readers(x).values())
    said = readers(noisy(300))["support vectors"]
    assert (said == TEST[1]).float().mean() < 0.25


def test_readers_that_learnt_wrong_labels_read_nothing() -> None:
    wrong = PixelReaders(TRAIN[0], TRAIN[1][torch.randperm(1197, generator=torch.Generator().manual_seed(0))].tolist())
    assert all((said == TEST[1]).float().mean() < 0.35 for said in wrong(TEST[0]).values())


FEW = TRAIN[0][:200]


def test_directions_are_the_principal_components_of_a_decomposition() -> None:
    rows = FEW.flatten(1).double()
    slow = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False).Vh[:12]
    found = directions_of(FEW, 12)
    assert torch.allclose(found @ found.T, torch.eye(12, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(found.T @ found, slow.T @ slow, atol=1e-6)  # the same space, whatever the signs


def test_strokes_are_all_of_a_change_along_a_direction_and_none_across() -> None:
    axes = directions_of(FEW, 60)
    inside, outside = 3 * axes[20:25].sum(dim=0), axes[0] - axes[10]  # the last 40 are those of the most variance
    change = torch.stack([inside, outside, inside / inside.norm() + outside / outside.norm()]).view(3, 3, 32, 32)
    assert strokes(change, directions_of(FEW)).tolist() == pytest.approx([1.0, 0.0, 0.5], abs=1e-9)
    assert strokes(torch.zeros(1, 3, 32, 32), axes).item() == 0


def test_noise_has_the_share_of_strokes_that_chance_gives_it_and_digits_have_nearly_all() -> None:
    axes = directions_of(FEW)
    assert strokes(noisy(100) - 0.5, axes).mean().item() == pytest.approx(40 / 3072, rel=0.1)
    assert strokes(TEST[0] - FEW.mean(dim=0), axes).mean() > 0.95


def test_likeness_is_one_for_a_picture_of_the_class_and_looks_at_no_other_class() -> None:
    x, y = TEST[0][:10], TEST[1][:10]
    assert torch.allclose(likeness(0.3 + 0.5 * x, y, *TEST), torch.ones(10), atol=1e-5)
    other = likeness(x, (y + 1) % 10, *TEST)
    slow = [
        max(
            torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
            for b in TEST[0][TEST[1] == (label + 1) % 10]
        )
        for a, label in zip(x, y.tolist(), strict=True)
    ]
    assert other.tolist() == pytest.approx(slow, abs=1e-4)


def test_a_reading_of_the_very_digits_finds_them_and_one_of_grey_does_not() -> None:
    reading = Reading((FEW, TRAIN[1][:200]), TEST)
    x, y = TEST[0][:40], TEST[1][:40]
    grey = torch.full((1, 3, 32, 32), 0.5)
    drawn = reading.of(Inversion(x, torch.ones(40), torch.ones(40)), grey, y)
    assert drawn.n == 40 and drawn.likeness.value == pytest.approx(1) and drawn.read["support vectors"].value > 0.9
    assert drawn.strokes.value > 0.5 and drawn.cosine.value == 1
    shaken = reading.of(Inversion(noisy(40), torch.ones(40), torch.ones(40)), grey, y)
    assert shaken.strokes.value < 0.03 and shaken.likeness.value < 0.2 and shaken.read["support vectors"].value < 0.4
    assert all(e.value > 0.85 for e in reading.clean().values())
    assert reading.clean_strokes().value > 0.95
