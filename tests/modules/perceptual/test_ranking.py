from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules.perceptual.ranking import average_precision, rank_of, recall_at

GENERATOR = torch.Generator().manual_seed(3)
SIMILARITY = torch.rand(20, 30, generator=GENERATOR)
RELEVANT = torch.rand(20, 30, generator=GENERATOR) < 0.2
IGNORED = (torch.rand(20, 30, generator=GENERATOR) < 0.2) & ~RELEVANT


def slow_average_precision(similarity: Tensor, relevant: Tensor, ignored: Tensor) -> float:
    """Trapezoids under precision over recall, one item of the cleaned ranking after another."""
    order = sorted(range(len(similarity)), key=lambda i: -float(similarity[i]))
    order = [i for i in order if not ignored[i]]
    found, area = 0, 0.0
    for place, item in enumerate(order):
        if relevant[item]:
            before = 1.0 if place == 0 else found / place
            found += 1
            area += (before + found / (place + 1)) / 2
    return area / found


def test_average_precision_is_the_area_a_slow_loop_adds_up() -> None:
    wanted = [slow_average_precision(*rows) for rows in zip(SIMILARITY, RELEVANT, IGNORED, strict=True)]
    assert torch.allclose(average_precision(SIMILARITY, RELEVANT, IGNORED), torch.tensor(wanted).double())


def test_a_perfect_ranking_has_precision_one_and_the_worst_is_known_in_closed_form() -> None:
    relevant = torch.zeros(1, 10, dtype=torch.bool)
    relevant[0, :3] = True
    falling = torch.arange(10, 0, -1).float()[None]
    assert average_precision(falling, relevant).item() == 1.0
    last = sum((before / place + (before + 1) / (place + 1)) / 2 for before, place in enumerate(range(7, 10))) / 3
    assert average_precision(-falling, relevant).item() == pytest.approx(last)


def test_items_that_are_ignored_cost_nothing_wherever_they_stand() -> None:
    relevant = torch.tensor([[False, True, False]])
    ignored = torch.tensor([[True, False, False]])
    similarity = torch.tensor([[0.9, 0.8, 0.7]])
    assert average_precision(similarity, relevant).item() == 0.25
    assert average_precision(similarity, relevant, ignored).item() == 1.0
    assert recall_at(similarity, relevant, 1).tolist() == [False]
    assert recall_at(similarity, relevant, 1, ignored).tolist() == [True]


def test_a_query_with_nothing_relevant_has_no_precision() -> None:
    assert average_precision(SIMILARITY[:1], torch.zeros(1, 30, dtype=torch.bool)).isnan().all()


def test_recall_grows_with_k_and_is_certain_in_the_end() -> None:
    hits = torch.stack([recall_at(SIMILARITY, RELEVANT, k) for k in (1, 5, 10, 30)])
    assert (hits[1:] >= hits[:-1]).all() and torch.equal(hits[-1], RELEVANT.any(dim=1))


def test_the_rank_of_an_item_is_its_place_in_the_ranking() -> None:
    item = torch.randint(30, (20,), generator=GENERATOR)
    order = SIMILARITY.argsort(dim=1, descending=True)
    assert torch.equal(rank_of(SIMILARITY, item), (order == item[:, None]).int().argmax(dim=1) + 1)
    ties = torch.ones(1, 5)
    assert rank_of(ties, torch.tensor([3])).item() == 4


def test_a_k_larger_than_the_gallery_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a gallery of 31 items"):
        recall_at(SIMILARITY, RELEVANT, 31)
