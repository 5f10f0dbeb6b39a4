"""Images are 8-bit images; networks are trained once, reproducibly, and handed out as copies."""

from __future__ import annotations

import torch

from eval.traps.nets import Net, _trained, trained
from eval.traps.worlds import FAINT, TEST_IMAGES, World

QUICK = Net(body="mlp", layer="none", epochs=1)


def test_images_lie_on_the_8_bit_grid_and_no_test_image_is_trained_on() -> None:
    (x, y), (x_train, _) = FAINT.test(), FAINT.train()
    assert x.shape == (TEST_IMAGES, 3, 8, 8) and len(y.unique()) == 10
    assert torch.equal(x, (x * 255).round() / 255)
    assert float(x.max() - x.min()) < 0.13
    assert torch.cdist(x.flatten(1), x_train.flatten(1)).min() > 0


def test_a_world_of_twenty_classes_has_dark_digits_of_their_own() -> None:
    _, y = World(classes=20).test()
    assert y.max() >= 10 > y.min()


def test_wrong_labels_are_in_the_training_images_only() -> None:
    right, wrong = World(), World(wrong_labels=0.5)
    assert torch.equal(right.test()[1], wrong.test()[1])
    assert 0.3 < float((right.train()[1] != wrong.train()[1]).float().mean()) < 0.6


def test_a_network_is_a_fresh_copy_and_training_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    with torch.no_grad():
        first, second = trained(QUICK), trained(QUICK)
    assert torch.equal(state, torch.get_rng_state())
    x, _ = FAINT.test()
    assert first is not second and torch.equal(first(x), second(x))
    assert not any(p.requires_grad for p in first.parameters()) and not first.training


def test_a_network_trained_again_is_the_same_network() -> None:
    x, _ = FAINT.test()
    before = trained(QUICK)(x)
    _trained.cache_clear()
    assert torch.allclose(before, trained(QUICK)(x), atol=1e-4)
