"""Gates on the latent: what they flag, what becomes of it, and what an attacker has to do about them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.attacks import APGD
from modules.attacks.base import Search
from modules.defenses import CLIPureCos, View, route
from modules.defenses.clipure_diff import CLIPureDiff
from modules.defenses.cosine_gate import CosineGate
from modules.defenses.latent_gate import LatentGate
from modules.defenses.likelihood_gate import LikelihoodGate
from modules.perturb import Threat
from tests.modules.defenses.test_defenses import BLANK, DIM, TOKENS, small_prior
from tests.modules.toys import ConvEncoder, classifier, images

ENCODER = ConvEncoder(DIM).freeze()
X = images(40)


def likelihood_gate(**settings: object) -> LikelihoodGate:
    return LikelihoodGate(ENCODER, small_prior(), BLANK, TOKENS, **settings)  # pyright: ignore[reportArgumentType]


def cosine_gate(**settings: object) -> CosineGate:
    return CosineGate(ENCODER, BLANK, **settings)  # pyright: ignore[reportArgumentType]


Build = Callable[..., LatentGate]
both = pytest.mark.parametrize("build", [likelihood_gate, cosine_gate])


def calibrated(build: Build, fpr: float = 0.25, **settings: object) -> LatentGate:
    gate = build(fpr=fpr, **settings)
    with torch.no_grad():
        clean = gate.gate_score(images(200, seed=7))
    gate.calibrate_gate(clean, clean - 1)
    return gate


@both
def test_the_gate_opens_below_the_threshold(build: Build) -> None:
    gate = calibrated(build)
    assert gate.threshold is not None
    with torch.no_grad():
        score, opening = gate.gate_score(X), gate.gate(X)
    assert torch.equal(opening > 0, score < gate.threshold)
    assert 0.05 < float((opening > 0).double().mean()) < 0.5


@both
def test_calibration_tells_threshold_unit_and_area(build: Build) -> None:
    gate = build(fpr=0.1)
    assert gate.calibrate
    clean = torch.linspace(0, 1, 99)
    found = gate.calibrate_gate(clean, clean - 2)
    assert (found.direction, found.auc) == ("below", 1.0)
    assert gate.threshold == found.tau == pytest.approx(float(clean[9]))
    assert gate.unit == pytest.approx(float(clean.std(correction=0)))
    assert gate.gate_rest == pytest.approx((0.5 - found.tau) / gate.unit)
    assert found.reads == gate.gate_reads != "score"


@both
def test_a_gate_that_was_not_set_flags_everything(build: Build) -> None:
    assert (build().gate(X) > 0).all()


@both
def test_a_flag_leaves_the_latent_alone(build: Build) -> None:
    gate = calibrated(build, act="flag")
    assert torch.equal(gate.encode_image(X), ENCODER.encode_image(X))
    assert gate.rejects and not gate.random
    assert gate.smoothed() is None and gate.cheaper() is None and gate.iterates() == []


@both
@pytest.mark.parametrize("differentiated", [False, True])
def test_purify_moves_the_flagged_and_only_them(build: Build, differentiated: bool) -> None:
    gate = calibrated(build, act="purify")
    purifier: CLIPureDiff | CLIPureCos = (
        CLIPureDiff(ENCODER, small_prior(), BLANK, TOKENS)
        if build is likelihood_gate
        else CLIPureCos(ENCODER, BLANK, steps=10, step_size=0.05)
    )
    with noise.samples(noise.keys_of([str(i) for i in range(40)])):
        x = X.clone().requires_grad_() if differentiated else X
        moved = gate.encode_image(x).detach()
        z = ENCODER.encode_image(X)
        expected = torch.where((gate.gate(X) > 0)[:, None], purifier.purify_latent(z), z)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(moved, z) and not gate.rejects
    assert gate.cheaper() is not None or build is cosine_gate


def test_the_likelihood_is_the_priors_on_common_noise() -> None:
    gate = likelihood_gate(draws=3, t_max=0.5)
    z = ENCODER.encode_image(X)
    prefix = gate.diffusion.prior.text_prefix(F.normalize(BLANK, dim=0)[None], TOKENS)
    one_by_one = []
    for latent in z:
        with noise.samples(torch.zeros(1, dtype=torch.int64)):
            unit = F.normalize(latent[None], dim=1)
            one_by_one.append(gate.diffusion.prior.log_likelihood(unit, prefix=prefix, draws=3, t_max=0.5))
    torch.testing.assert_close(gate.likelihood(z), torch.cat(one_by_one), rtol=1e-4, atol=1e-6)
    same = likelihood_gate(draws=3, t_max=0.5).likelihood(z[:1].expand(5, -1))
    assert float(same.max() - same.min()) < 1e-5  # nothing but the latent tells two images apart


def test_the_cosine_is_the_one_with_the_template() -> None:
    z = ENCODER.encode_image(X)
    expected = F.cosine_similarity(z, BLANK[None])
    torch.testing.assert_close(cosine_gate().likelihood(z), expected)


@both
def test_gates_have_the_slope_of_finite_differences(build: Build) -> None:
    gate = copy.deepcopy(build(threshold=0.1)).double()  # the encoder is shared with the other tests
    x = (images(3) * 0.5 + 0.25).double().requires_grad_()
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (grad,) = torch.autograd.grad(gate.gate(x).sum(), x)
    with torch.no_grad():
        slope = (gate.gate(x + 1e-6 * way) - gate.gate(x - 1e-6 * way)) / 2e-6
    torch.testing.assert_close((grad * way).flatten(1).sum(1), slope, rtol=1e-3, atol=1e-6)


@both
def test_who_knows_the_gate_fools_the_encoder_unflagged(build: Build) -> None:
    """Found means wrong and unflagged; without regard to the gate some of what is wrong is flagged."""
    gate = calibrated(build, fpr=0.5)
    model, threat = classifier(gate), Threat("linf", 0.03)
    with torch.no_grad():
        y = model(X).argmax(dim=1)

    def slipped(view: View) -> tuple[int, int]:
        way = route(view, gate)
        search = Search(model, X, y, threat, penalty=way.penalty, refused=way.refused)
        x = APGD(threat, steps=20).on(search)
        with torch.no_grad():
            wrong, flagged = model(x).argmax(dim=1) != y, gate.gate(x) > 0
        if view is View.gate:
            assert torch.equal(search.margin > 0, wrong & ~flagged)
        return int(wrong.sum()), int((wrong & ~flagged).sum())

    blind, knowing = slipped(View.adaptive), slipped(View.gate)
    assert blind[1] < blind[0]
    assert knowing[1] > blind[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fpr": 0.0}, "fpr is 0.0; it is the share of clean images"),
        ({"fpr": 1.0}, "fpr is 1.0"),
        ({"draws": 0}, "draws is 0"),
        ({"t_min": 0.5, "t_max": 0.5}, "say 0 <= t_min < t_max <= 1"),
        ({"steps": -1}, "CLIPure-Diff takes steps >= 0"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        likelihood_gate(**settings)
    assert "\n" not in str(caught.value)


def test_a_prior_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="embeddings of 16 numbers, the encoder gives 4"):
        LikelihoodGate(ConvEncoder(4), small_prior(), BLANK, TOKENS)


@both
def test_too_few_tuning_images_are_told(build: Build) -> None:
    with pytest.raises(ValueError, match="10 tuning images cannot set a gate at fpr=0.05; give at least 19"):
        build().calibrate_gate(torch.rand(10), torch.rand(10))


@both
def test_an_explicit_threshold_is_taken_as_it_is(build: Build) -> None:
    gate = build(threshold=-0.2)
    assert not gate.calibrate and gate.threshold == -0.2
    opening: Tensor = gate.gate(X)
    torch.testing.assert_close(opening, (-0.2 - gate.gate_score(X)) / 0.2)
