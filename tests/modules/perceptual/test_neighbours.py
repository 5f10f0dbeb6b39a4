from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from modules.perceptual.metric import unit
from modules.perceptual.neighbours import LinearProbe, NearestNeighbours, Votes

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(90) % 3
CENTRES = torch.randn(3, 8, generator=GENERATOR)
Z = CENTRES[LABELS] + 1.2 * torch.randn(90, 8, generator=GENERATOR)
ASKED = CENTRES[LABELS] + 1.2 * torch.randn(90, 8, generator=GENERATOR)
CLASSES = ["safe", "unsafe", "other"]


@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_neighbours_vote_as_scikit_learns_do(k: int) -> None:
    votes = NearestNeighbours(Z, LABELS, CLASSES, k=k)(ASKED)
    other = KNeighborsClassifier(k, metric="cosine").fit(Z.numpy(), LABELS.numpy())
    assert torch.allclose(votes.floor() / k, torch.tensor(other.predict_proba(ASKED.numpy())).float(), atol=1e-5)


def test_equal_votes_are_told_apart_by_the_nearer_examples() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    head = NearestNeighbours(z[[0, 2]], torch.tensor([0, 1]), ["a", "b"], k=2)
    assert head(torch.tensor([[1.0, 0.2], [0.2, 1.0]])).argmax(dim=1).tolist() == [0, 1]


@pytest.mark.parametrize("votes", ["majority", "distance"])
def test_the_vote_of_one_neighbour_is_its_class_and_the_soft_margin_agrees(votes: Votes) -> None:
    head = NearestNeighbours(Z, LABELS, CLASSES, k=1, votes=votes)
    nearest = LABELS[(unit(ASKED) @ unit(Z).T).argmax(dim=1)]
    assert torch.equal(head(ASKED).argmax(dim=1), nearest)
    assert (head.soft(ASKED).argmax(dim=1) == nearest).float().mean() > 0.9
    z = ASKED.clone().requires_grad_()
    head.soft(z).logsumexp(dim=1).sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0


def test_the_linear_probe_is_scikit_learns_regularised_logistic_regression() -> None:
    penalty = 1e-3
    probe = LinearProbe(Z, LABELS, CLASSES, penalty=penalty)
    other = LogisticRegression(C=1 / (2 * penalty * len(Z)), tol=1e-8, max_iter=5000).fit(
        unit(Z).numpy(), LABELS.numpy()
    )
    mine, theirs = probe(ASKED).softmax(dim=1), torch.tensor(other.predict_proba(unit(ASKED).numpy())).float()
    assert torch.allclose(mine, theirs, atol=1e-3)


def test_examples_that_teach_nothing_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="91 neighbours cannot be found among 90 examples"):
        NearestNeighbours(Z, LABELS, CLASSES, k=91)
    with pytest.raises(ValueError, match="class 'fourth' has no examples"):
        LinearProbe(Z, LABELS, [*CLASSES, "fourth"])
    with pytest.raises(ValueError, match="at least two classes"):
        NearestNeighbours(Z, torch.zeros(90, dtype=torch.long), ["only"], k=1)
