"""What holds for every defence: a new one is a row in the table."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.attacks import APGD
from modules.defenses import (
    TTC,
    CLIPureCos,
    Defense,
    RandomNoise,
    Undefended,
    View,
    route,
    undefended,
)
from modules.defenses.anti_adversary import AntiAdversary
from modules.defenses.clipure_diff import CLIPureDiff
from modules.defenses.cosine_gate import CosineGate
from modules.defenses.csr import CSR
from modules.defenses.doc import DOC
from modules.defenses.et3 import ET3
from modules.defenses.hedge import HedgeDefense
from modules.defenses.likelihood_gate import LikelihoodGate
from modules.defenses.low_pass import LowPass
from modules.defenses.mac import MAC
from modules.defenses.nac import NAC
from modules.defenses.smoothing import RandomizedSmoothing
from modules.defenses.ttc_original import TTCOriginal
from modules.defenses.tte import TTE
from modules.encoders.base import ImageEncoder, frozen
from modules.perturb import Threat
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork
from tests.modules.toys import ConvEncoder, classifier, head, images

DIM = 16


def small_prior() -> DiffusionPrior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PriorNetwork(dim=DIM, depth=1, heads=2, dim_head=8, max_text_len=3, num_timesteps=20)
    return DiffusionPrior(network, NoiseSchedule(timesteps=20)).eval()


BLANK = torch.randn(DIM, generator=torch.Generator().manual_seed(9))
TOKENS = torch.randn(1, 3, DIM, generator=torch.Generator().manual_seed(8))
DEFENSES: dict[str, Callable[[ImageEncoder], Defense]] = {
    "none": Undefended,
    "random_noise": lambda e: RandomNoise(e, eps=0.03),
    "clipure_cos": lambda e: CLIPureCos(e, BLANK),
    "clipure_cos_rotation": lambda e: CLIPureCos(e, BLANK, rotation_deg=15.0),
    "clipure_cos_legacy": lambda e: CLIPureCos(e, BLANK, mode="legacy"),
    "clipure_diff": lambda e: CLIPureDiff(e, small_prior(), BLANK, TOKENS, steps=3),
    "clipure_diff_fixed": lambda e: CLIPureDiff(e, small_prior(), BLANK, TOKENS, steps=2, deterministic=True),
    "clipure_diff_sphere": lambda e: CLIPureDiff(e, small_prior(), BLANK, TOKENS, steps=3, step="sphere", guidance=2.0),
    "clipure_diff_legacy": lambda e: CLIPureDiff(e, small_prior(), BLANK, TOKENS, mode="legacy", steps=2),
    "likelihood_gate": lambda e: LikelihoodGate(e, small_prior(), BLANK, TOKENS, threshold=-1.0),
    "likelihood_gate_purify": lambda e: LikelihoodGate(
        e, small_prior(), BLANK, TOKENS, threshold=-1.0, act="purify", steps=2
    ),
    "cosine_gate_purify": lambda e: CosineGate(e, BLANK, threshold=0.0, act="purify"),
    "ttc": lambda e: TTC(e, eps=0.03, step_size=0.01, tau=0.1),
    "ttc_original": lambda e: TTCOriginal(e, ConvEncoder(DIM, seed=5).freeze(), eps=0.03, step_size=0.01, tau=0.02),
    "doc": lambda e: DOC(e, eps=0.03, step_size=0.02, steps=3, tau=0.0005, gamma=2000.0),
    "doc_prose": lambda e: DOC(e, eps=0.03, step_size=0.02, steps=2, tau=0.0005, gamma=2000.0, direction="above"),
    "nac": lambda e: NAC(e, eps=0.03, step_size=0.01, steps=3, tau=0.021),
    "mac": lambda e: MAC(e, eps=0.06, steps=3, tau=0.18, temperature=0.02),
    "csr": lambda e: CSR(e, eps=0.03, step_size=0.01, tau=0.972),
    "et3": lambda e: ET3(e, head(DIM), step_size=6.0),
    "anti_adversary": lambda e: AntiAdversary(e, head(DIM), step_size=0.02, clip=True),
    "hedge": lambda e: HedgeDefense(e, head(DIM), steps=5),
    "hedge_final": lambda e: HedgeDefense(e, head(DIM), steps=3, predict="final"),
    "tte": lambda e: TTE(e, blur=0.7),
    "tte_legacy": lambda e: TTE(e, legacy_bug=True),
    "low_pass": LowPass,
    "smoothing": lambda e: RandomizedSmoothing(e, sigma=0.1, draws=5),
    "nac_on_noise": lambda e: NAC(RandomNoise(e, eps=0.01), eps=0.03, step_size=0.01, steps=3, tau=0.021),
    "ttc_on_noise": lambda e: TTC(RandomNoise(e, eps=0.01), eps=0.03, step_size=0.01, tau=1.0),
}
every_defense = pytest.mark.parametrize("build", DEFENSES.values(), ids=DEFENSES.keys())
X = images(8)


def defended(build: Callable[[ImageEncoder], Defense]) -> Defense:
    defense = build(ConvEncoder(DIM).freeze())
    return defense.eval()


def named(count: int = 8) -> Tensor:
    return noise.keys_of([f"image-{i}" for i in range(count)])


@every_defense
def test_a_defended_encoder_is_an_encoder(build: Callable[[ImageEncoder], Defense]) -> None:
    defense = defended(build)
    z = defense.encode_image(X)
    assert isinstance(defense, ImageEncoder)
    assert z.shape == (8, DIM) and torch.isfinite(z).all()
    assert (defense.embedding_dim, defense.image_size) == (DIM, 8)


@every_defense
def test_it_can_be_stacked_and_unstacked(build: Callable[[ImageEncoder], Defense]) -> None:
    stack = CLIPureCos(defended(build), BLANK)
    assert stack.encode_image(X).shape == (8, DIM)
    assert isinstance(undefended(stack), ConvEncoder)


@every_defense
def test_the_same_sample_is_treated_the_same_in_any_batch(
    build: Callable[[ImageEncoder], Defense],
) -> None:
    defense = defended(build)
    with torch.no_grad(), noise.samples(named()):
        whole = defense.encode_image(X)
        for order in ([2, 3], [6, 7, 0, 1]) if defense.group == 2 else ([5], [6, 1, 4]):
            with noise.subset(torch.tensor(order)):
                assert torch.allclose(defense.encode_image(X[order]), whole[order], atol=1e-4)


@every_defense
def test_fresh_draws_differ_exactly_where_a_defence_is_random(
    build: Callable[[ImageEncoder], Defense],
) -> None:
    defense = defended(build)
    with torch.no_grad():
        with noise.samples(named(), draw=0):
            first, again = defense.encode_image(X), defense.encode_image(X)
        with noise.samples(named(), draw=1):
            other = defense.encode_image(X)
    assert torch.equal(first, again)
    assert torch.equal(first, other) != defense.random


@every_defense
def test_pixels_stay_in_the_box(build: Callable[[ImageEncoder], Defense]) -> None:
    moved = defended(build).purify_pixels(X.round())
    assert moved.min() >= 0 and moved.max() <= 1


@every_defense
def test_pixels_stay_in_the_ball_where_there_is_one(build: Callable[[ImageEncoder], Defense]) -> None:
    defense = defended(build)
    threat = getattr(defense, "threat", Threat("linf", 1.0))
    with noise.samples(named()):
        assert (threat.distance(X, defense.purify_pixels(X)) <= threat.eps + 1e-5).all()


@every_defense
def test_values_do_not_depend_on_whether_somebody_differentiates(build: Callable[[ImageEncoder], Defense]) -> None:
    defense = defended(build)
    with noise.samples(named()):
        watched = defense.encode_image(X.clone().requires_grad_()).detach()
        with torch.no_grad():
            assert torch.allclose(defense.encode_image(X), watched, atol=1e-5)


@every_defense
def test_every_view_offers_a_gradient_that_is_not_destroyed(
    build: Callable[[ImageEncoder], Defense],
) -> None:
    defense = defended(build)
    for view in defense.views():
        if view in (View.released, View.query, View.control):
            continue
        leaf = X.clone().requires_grad_()
        with noise.samples(named()):
            z = route(view, defense).looks[0].encode_image(leaf)
        weight = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        (grad,) = torch.autograd.grad((z * weight).sum(), leaf)
        assert torch.isfinite(grad).all()
        assert (grad.flatten(1).norm(dim=1) > 1e-4).all(), view


@every_defense
def test_bpda_keeps_the_defences_values(build: Callable[[ImageEncoder], Defense]) -> None:
    defense = defended(build)
    if View.bpda not in defense.views():
        pytest.skip("nothing to see through")
    with torch.no_grad(), noise.samples(named()):
        assert torch.allclose(route(View.bpda, defense).looks[0].encode_image(X), defense.encode_image(X), atol=1e-4)


@every_defense
def test_the_smoothest_view_has_the_slope_of_finite_differences(
    build: Callable[[ImageEncoder], Defense],
) -> None:
    defense = defended(build).double()
    encoder = defense.smoothed() or route(View.adaptive, defense).looks[0]
    x = (images(4) * 0.5 + 0.25).double()
    weight = torch.randn(4, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value(v: Tensor) -> Tensor:
        with noise.samples(named(4)):
            return (encoder.encode_image(v) * weight).sum()

    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(value(leaf), leaf)
    h = 1e-6
    with torch.enable_grad():
        slope = (value((x + h * direction).requires_grad_()) - value((x - h * direction).requires_grad_())) / (2 * h)
    assert torch.allclose((grad * direction).sum(), slope, rtol=2e-3, atol=1e-6)


@every_defense
def test_its_views_never_lower_what_they_are_named_for(
    build: Callable[[ImageEncoder], Defense],
) -> None:
    views = defended(build).views()
    assert View.adaptive in views
    assert (View.eot in views) == defended(build).random
    assert (View.released in views) == bool(defended(build).artefact)


def test_a_stack_is_as_random_coupled_and_labelled_as_what_it_is_made_of() -> None:
    noisy = CLIPureCos(RandomNoise(ConvEncoder(DIM)), BLANK)
    assert noisy.random and View.eot in noisy.views()
    legacy = RandomNoise(CLIPureCos(ConvEncoder(DIM), BLANK, mode="legacy", legacy_batch=4))
    assert (legacy.group, legacy.artefact) == (4, "clipure-legacy")
    assert CLIPureCos(legacy, BLANK, mode="legacy", legacy_batch=6).group == 12


def test_transfer_follows_the_bare_encoder() -> None:
    defense = defended(DEFENSES["ttc_on_noise"])
    assert isinstance(route(View.transfer, defense).looks[0], ConvEncoder)


def test_random_noise_is_uniform_in_its_ball() -> None:
    x = torch.full((500, 3, 4, 4), 0.5)
    with noise.samples(torch.arange(500)):
        delta = RandomNoise(ConvEncoder(DIM), eps=0.1).purify_pixels(x) - x
    assert delta.abs().max() <= 0.1 + 1e-6
    assert abs(float(delta.std()) - 0.1 / 3**0.5) < 1e-3


def test_a_prior_of_another_width_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="embeddings of 16 numbers, the encoder gives 4"):
        CLIPureDiff(ConvEncoder(4), small_prior(), BLANK, TOKENS)


def test_purifying_with_a_prior_lowers_its_denoising_error() -> None:
    defense = CLIPureDiff(
        ConvEncoder(DIM).freeze(),
        small_prior(),
        BLANK,
        TOKENS,
        steps=20,
        step_size=0.02,
        deterministic=True,
    )
    z = ConvEncoder(DIM).encode_image(X).detach()

    def error(v: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize(v, dim=1)
        return torch.stack([defense.error(unit, v, step) for step in range(20)]).mean()

    with torch.no_grad():
        assert error(defense.purify_latent(z)) < error(z)


def test_purification_leaves_the_length_of_a_latent_alone() -> None:
    for name in ("clipure_cos", "clipure_diff"):
        defense, z = (
            defended(DEFENSES[name]),
            3 * torch.randn(5, DIM, generator=torch.Generator().manual_seed(0)),
        )
        assert torch.allclose(defense.purify_latent(z).norm(dim=1), z.norm(dim=1), rtol=1e-5)


def test_an_exact_attack_brings_a_purified_model_down_to_the_bare_one() -> None:
    encoder = ConvEncoder(DIM)
    bare = classifier(encoder)
    cos = classifier(CLIPureCos(encoder, BLANK))
    x = images(64, seed=3)
    attack = APGD(Threat("linf", 0.01), steps=20)
    with frozen(bare), torch.no_grad():
        y = bare(x).argmax(dim=1)
        kept = cos(x).argmax(dim=1) == y
        robust_bare = (bare(attack(bare, x, y)).argmax(1) == y).float().mean()
        robust_cos = ((cos(attack(cos, x, y)).argmax(1) == y) & kept).float().mean()
    assert robust_bare < 0.9  # the radius matters
    assert robust_cos <= robust_bare + 0.1
