from __future__ import annotations

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from eval.perceptual.changes import ATTACKED, CHANGES, apart, courses, mean_of
from modules import noise
from modules.perceptual import PerceptualMetric
from tests.close import rounding
from tests.modules.toys import ConvEncoder, images

ENCODER = ConvEncoder(size=16)
X = images(5, size=16)


def test_a_blur_is_the_gaussian_of_scipy() -> None:
    change, _, _ = CHANGES["blur"]
    blurred = change(X, 2.0)
    slow = gaussian_filter(X.double().numpy(), (0, 0, 2.0, 2.0), mode="nearest", radius=(0, 0, 7, 7))
    assert torch.allclose(blurred.double(), torch.from_numpy(slow), atol=1e-5)


def test_fading_keeps_the_mean_and_takes_off_contrast() -> None:
    faded = CHANGES["faded"][0](X, 0.75)
    assert torch.allclose(faded.mean(dim=(1, 2, 3)), X.mean(dim=(1, 2, 3)), atol=1e-6)
    assert torch.allclose(faded.flatten(1).std(dim=1), 0.25 * X.flatten(1).std(dim=1), atol=1e-6)


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_change_keeps_pictures_in_the_box_and_is_the_same_again(name: str) -> None:
    change, strengths, _ = CHANGES[name]
    for strength in strengths:
        changed = change(X, strength)
        assert changed.shape == X.shape and changed.min() >= 0 and changed.max() <= 1
        assert torch.equal(changed, change(X, strength)) and not torch.equal(changed, X)


def test_distances_are_those_of_the_metric_and_an_attack_beats_noise_of_its_size() -> None:
    found = {course.change: course for course in courses(ENCODER, X, levels=(4, 8))}
    assert set(found) == {*CHANGES, ATTACKED}
    metric, faded = PerceptualMetric(ENCODER), found["faded"]
    expected = [metric(X, CHANGES["faded"][0](X, size)).mean().item() for size in CHANGES["faded"][1]]
    assert [e.value for e in faded.distances] == pytest.approx(expected, abs=rounding())
    assert len(faded.shown) == 5
    assert faded.shown_distances[0] == pytest.approx(metric(X, faded.shown[1][None])[0].item(), abs=rounding())
    with noise.samples(torch.arange(len(X))):
        shaken = (X + 8 / 255 * noise.normal(X, "test").sign()).clamp(0, 1)
    attacked = found[ATTACKED]
    assert (attacked.shown[2] - X[0]).abs().max() <= 8 / 255 + 1e-6
    assert attacked.distances[1].value > 2 * metric(X, shaken).mean().item()
    assert attacked.distances[1].value > attacked.distances[0].value


def test_the_distance_between_classes_is_the_mean_over_pairs_of_two_classes() -> None:
    y = torch.tensor([0, 1, 2, 3, 4])
    metric = PerceptualMetric(ENCODER)
    slow = [metric(X[i : i + 1], X[j : j + 1]).item() for i in range(5) for j in range(5) if y[i] != y[j]]
    assert apart(ENCODER, X, y).value == pytest.approx(sum(slow) / len(slow), abs=rounding())


def test_a_mean_has_the_interval_of_the_normal_distribution() -> None:
    found = mean_of(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    half = 1.959964 * math.sqrt(14 / 3 / 4)
    assert found == pytest.approx((3.0, 3.0 - half, 3.0 + half), abs=1e-4)
    assert mean_of(torch.tensor([1.0])).high == math.inf
