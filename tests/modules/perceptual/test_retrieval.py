from __future__ import annotations

import pytest
import torch

from modules.attacks import APGD
from modules.attacks.search import Search
from modules.perceptual.ranking import rank_of, recall_at
from modules.perceptual.retrieval import FirstIsAnotherThan, FirstIsRelevant, Gallery, StaysOut, bars_of
from modules.perturb.threat import Threat
from tests.modules.toys import ConvEncoder, images

ENCODER = ConvEncoder().freeze()
ITEMS, QUERIES = images(40), images(12, seed=5)
GALLERY = Gallery(ENCODER(ITEMS))
RELEVANT = torch.zeros(12, 40, dtype=torch.bool).scatter(
    1, GALLERY.similarity(ENCODER(QUERIES)).topk(3, dim=1).indices, True
)
THREAT, Y = Threat("linf", 0.06), torch.zeros(12, dtype=torch.long)


def test_the_first_is_relevant_exactly_where_recall_at_1_says_so() -> None:
    relevant = torch.rand(12, 40, generator=torch.Generator().manual_seed(0)) < 0.3
    ignored = (torch.rand(12, 40, generator=torch.Generator().manual_seed(1)) < 0.3) & ~relevant
    contest = FirstIsRelevant(ENCODER, GALLERY, relevant, ~relevant & ~ignored)
    hit = recall_at(GALLERY.similarity(ENCODER(QUERIES)), relevant, 1, ignored)
    assert torch.equal(contest(QUERIES).argmax(dim=1) == 0, hit)
    few = torch.tensor([2, 7])
    assert torch.allclose(contest.of(few)(QUERIES[few]), contest(QUERIES)[few], atol=1e-6)


def test_an_attacked_query_finds_something_else_first() -> None:
    contest = FirstIsRelevant(ENCODER, GALLERY, RELEVANT, ~RELEVANT)
    x_adv = APGD(THREAT, loss="margin", steps=20)(contest, QUERIES, Y, compact=True)
    assert THREAT.contains(QUERIES, x_adv).all()
    hit = recall_at(GALLERY.similarity(ENCODER(x_adv)), RELEVANT, 1)
    assert torch.equal(contest(x_adv).argmax(dim=1) == 0, hit) and (~hit).sum() > 6


def test_a_targeted_query_finds_the_attackers_item_first() -> None:
    target = GALLERY.similarity(ENCODER(QUERIES)).topk(4, dim=1).indices[:, 3]
    others = torch.zeros(12, 40, dtype=torch.bool).scatter(1, target[:, None], True)
    x_adv = APGD(THREAT, loss="margin", steps=20)(FirstIsAnotherThan(ENCODER, GALLERY, ~others, others), QUERIES, Y)
    ranks = rank_of(GALLERY.similarity(ENCODER(x_adv)), target)
    assert (ranks == 1).sum() > 6 and (ranks <= 4).all()


def test_a_poisoned_item_gets_among_the_first_k_exactly_where_its_bar_is_exceeded() -> None:
    chosen, queries = torch.arange(12) + 20, ENCODER(QUERIES)
    bars = bars_of(GALLERY, queries, chosen, 5)
    out = StaysOut(ENCODER, queries, bars)
    search = Search(out, ITEMS[chosen], Y, THREAT)
    x_adv = APGD(THREAT, loss="margin", steps=20).on(search)
    for n in range(12):
        embeddings = GALLERY.embeddings.clone()
        embeddings[chosen[n]] = ENCODER(x_adv[n : n + 1])[0]
        rank = rank_of(Gallery(embeddings).similarity(queries[n : n + 1]), chosen[n : n + 1])
        assert (int(rank) <= 5) == bool(out.of(torch.tensor([n]))(x_adv[n : n + 1]).argmax() == 1)
    assert (search.margin > 0).any()


def test_a_k_that_leaves_nothing_out_is_refused() -> None:
    with pytest.raises(ValueError, match="k must leave at least one out"):
        bars_of(GALLERY, ENCODER(QUERIES), torch.arange(12), 40)
