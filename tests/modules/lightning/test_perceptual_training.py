from __future__ import annotations

import copy

import pytest
import torch

from data.batches import ImageBatch
from modules.attacks import PGD
from modules.lightning.optim import OptimizerSettings
from modules.lightning.perceptual_training import PerceptualTraining, hinge
from modules.perceptual import PerceptualMetric, Target
from modules.perceptual.residual_head import ResidualHead
from modules.perturb.threat import Threat
from tests.modules.toys import ConvEncoder, images

SETTINGS = OptimizerSettings(lr=1e-2, weight_decay=0.0, betas=(0.5, 0.999), warmup_steps=0, max_steps=100)
X = images(12)
BATCH = ImageBatch(
    X, torch.arange(12) % 2, tuple(f"t{i}" for i in range(12)), beside=torch.stack([X.flip(0), X.flip(2)], dim=1)
)


def encoder() -> ResidualHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ResidualHead(ConvEncoder(), hidden=8)


def module(attack: PGD | None = None, target: Target = "reference") -> PerceptualTraining:
    return PerceptualTraining(encoder(), attack, settings=SETTINGS, target=target)


def test_the_loss_is_the_papers_hinge_of_the_distances() -> None:
    assert BATCH.beside is not None
    metric, sign = PerceptualMetric(encoder()), BATCH.y.float() * 2 - 1  # +1 if the right one is preferred
    d0, d1 = metric(X, BATCH.beside[:, 0]), metric(X, BATCH.beside[:, 1])
    wanted = (0.05 - sign * (d0 - d1)).clamp_min(0).mean()
    assert torch.allclose(module().training_step(BATCH, 0), wanted, atol=1e-6)


def test_the_hinge_ends_where_the_margin_is_kept() -> None:
    cosines = torch.tensor([[0.9, 0.8], [0.9, 0.88], [0.5, 0.9]])
    assert torch.allclose(hinge(cosines, torch.zeros(3, dtype=torch.long), 0.05), torch.tensor([0.0, 0.03, 0.45]))


def test_a_head_changes_nothing_at_first_and_learns_the_answers() -> None:
    trained = module()
    plain = trained.encoder.encoder(X)  # pyright: ignore[reportCallIssue]
    assert torch.equal(trained.encoder(X), plain)
    optimizer = trained.configure_optimizers()["optimizer"]
    before = {name: value.clone() for name, value in trained.encoder.state_dict().items()}
    first = last = trained.training_step(BATCH, 0)
    for _ in range(60):
        optimizer.zero_grad()
        last = trained.training_step(BATCH, 0)
        last.backward()
        optimizer.step()
    assert last < 0.5 * first  # 0.2 to 0.4 of it, by the kernels that the machine has
    moved = {name for name, value in trained.encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith(("fc1", "fc2")) for name in moved)


@pytest.mark.parametrize("target", ["reference", "alternatives", "all"])
def test_the_attack_raises_the_loss_inside_the_ball_and_changes_what_it_may(target: Target) -> None:
    assert BATCH.beside is not None
    threat = Threat("linf", 0.03)
    attacked = module(PGD(threat, steps=5, step_size=0.01), target)
    clean = torch.cat([X[:, None], BATCH.beside], dim=1)
    found = attacked.perturb(clean, BATCH.y, BATCH.key, step=3)
    moved = [not torch.equal(found[:, i], clean[:, i]) for i in range(3)]
    assert moved == {"reference": [True, False, False], "alternatives": [False, True, True], "all": [True] * 3}[target]
    assert (found - clean).abs().max() <= 0.03 + 1e-6 and found.min() >= 0 and found.max() <= 1
    assert torch.equal(found, attacked.perturb(clean, BATCH.y, BATCH.key, step=3))
    assert attacked.training_step(BATCH, 0) > module().training_step(BATCH, 0)


def test_only_what_is_trained_leaves_evaluation_mode() -> None:
    trained = module().train()
    assert trained.training and trained.encoder.fc1.training  # pyright: ignore[reportAttributeAccessIssue]
    assert not trained.encoder.encoder.training  # pyright: ignore[reportAttributeAccessIssue]


def test_a_head_goes_into_a_file_and_back_and_only_onto_its_encoder() -> None:
    one, other = encoder(), copy.deepcopy(encoder())
    torch.nn.init.ones_(one.fc2.weight)
    assert torch.equal(other.load_head(one.head_state())(X), one(X))
    with pytest.raises(ValueError, match="does not fit this encoder's 24 numbers"):
        ResidualHead(ConvEncoder(dim=24), hidden=8).load_head(one.head_state())
