"""Bad samples are counted once each, whoever finds them, and too many on all processes together are refused."""

from __future__ import annotations

import json

import pytest

from data.bad_samples import BadSamples


def test_a_sample_counts_once_however_often_it_is_found() -> None:
    found = BadSamples(10, "x")
    for _ in range(3):
        found.note([3], "empty")
    found.note([4, 9], "bad label")
    assert found.by_reason() == {"empty": 1, "bad label": 2}
    assert 3 in found and 5 not in found


def test_processes_that_tell_each_other_know_the_same_and_tell_it_once() -> None:
    one, other = BadSamples(10, "x"), BadSamples(10, "x")
    one.note([1, 2], "empty")
    other.note([2, 7], "undecodable")  # each decodes for itself; 2 was found by both
    news = one.news(), other.news()
    one.take(news[1], 1)
    other.take(news[0], 0)
    assert set(one.found()) == set(other.found()) == {1, 2, 7}
    assert one.news() == other.news() == {}


def test_what_no_process_may_pass_over_alone_is_too_much_for_all_together() -> None:
    ranks = [BadSamples(100, "x") for _ in range(2)]
    for rank, found in enumerate(ranks):
        found.max_share = 0.03
        found.note([10 * rank, 10 * rank + 1], "empty")
    ranks[0].take(ranks[1].news(), 1)
    with pytest.raises(ValueError, match=r"^4 of 100 images of .x. are bad \(4 empty\), more than data.max_bad"):
        ranks[0].check()


def test_what_a_checkpoint_keeps_is_plain_and_comes_back() -> None:
    found = BadSamples(10, "x", lost=2, refused={"pickled": 1})
    assert found.plain() == {}
    found.note([5], "not an image")
    again = BadSamples(10, "x", lost=2, refused={"pickled": 1})
    again.restore(json.loads(json.dumps(found.plain())))
    assert again.counts() == found.counts()
    assert again.counts() == {"samples": 10, "bad": {"not an image": 1}, "lost": 2, "refused": {"pickled": 1}}
    assert again.news() == {}


def test_what_is_no_sample_or_no_reason_is_left_out() -> None:
    found = BadSamples(3, "x")
    found.take({-1: 1, 3: 1, 0: 0, 1: 200, 2: 1}, 1)
    assert found.found() == {2: 1}
