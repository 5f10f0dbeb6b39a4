"""Models that somebody hands in: copies that share nothing, and the parts that answer by themselves."""

from __future__ import annotations

import copy
import functools
import threading

import pytest
import torch
from torch import Tensor, nn

from eval.handed_in import LogitsEncoder, Part, copied
from modules.defenses.base import Undefended, View
from tests.modules.toys import images

CLASSES = 5
X = images(8)


def net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.GELU(), nn.Linear(24, CLASSES))
    return made.eval().requires_grad_(False)


def encoder_of(classifier: object) -> LogitsEncoder:
    made = LogitsEncoder(classifier, CLASSES, 8)  # pyright: ignore[reportArgumentType]
    made.find_parts(X[:4])
    return made


def names(classifier: object) -> list[str]:
    return [part.name for part in encoder_of(classifier).parts if isinstance(part, Part)]


class Whole(nn.Module):
    """Two nets and whatever a function makes of them."""

    def __init__(self, change: object) -> None:
        super().__init__()
        self.one, self.two, self.change = net(1), net(2), change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.one, self.two, x)  # pyright: ignore[reportCallIssue]


COUNTED: list[int] = []


def counts_in_a_global(x: Tensor) -> Tensor:
    COUNTED.append(len(x))
    return x.flatten(1)[:, :CLASSES] + len(COUNTED)


def test_a_copy_of_a_function_shares_neither_its_closure_nor_its_globals() -> None:
    seen: list[int] = []

    def count(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x.flatten(1)[:, :CLASSES] + len(seen)

    class Holder:
        def __init__(self) -> None:
            self.asked = 0

        def ask(self, x: Tensor) -> Tensor:
            self.asked += 1
            return x.flatten(1)[:, :CLASSES] + self.asked

    held = Holder()
    for victim in (count, lambda x: count(x), functools.partial(count), held.ask, counts_in_a_global):
        first = copied(victim)
        assert torch.equal(first(X), copied(victim)(X)) and not torch.equal(first(X), copied(victim)(X))
    assert seen == [] and held.asked == 0 and COUNTED == []


def test_a_copy_of_an_encoder_copies_the_function_inside_and_finds_the_same_parts() -> None:
    seen: list[int] = []
    inner = net()

    def vote(x: Tensor) -> Tensor:
        seen.append(1)
        return inner(x).round() + len(seen)

    made = encoder_of(vote)
    assert len(made.parts) == 1 and seen == []
    twin = copy.deepcopy(made)
    assert torch.equal(twin(X), copy.deepcopy(made)(X)) and seen == []
    assert len(twin.parts) == 1 and torch.equal(twin.parts[0](X), inner(X))


def test_what_cannot_be_copied_says_so_and_is_left_alone() -> None:
    lock = threading.Lock()

    def locked(x: Tensor) -> Tensor:
        with lock:
            return x.flatten(1)[:, :CLASSES]

    with pytest.raises(TypeError):
        copied(locked)
    assert encoder_of(locked).parts == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda one, two, x: one(x), ["two"]),  # a router may ask the other another time
        (lambda one, two, x: (10 * one(x)).round() + two(x), ["one", "two"]),
        (lambda one, two, x: one(x).clamp(-0.1, 0.1) + 0 * two(x), ["one", "two"]),
        (lambda one, two, x: torch.where(x[:, 0, 0, :1] > 0.5, one(x), two(x)), ["one", "two"]),
    ],
)
def test_what_gives_logits_by_itself_is_a_part(change: object, expected: list[str]) -> None:
    assert [name.split(".")[0] for name in names(Whole(change))] == expected


def test_an_honest_network_has_no_parts() -> None:
    assert names(net()) == [] and names(lambda x: x.flatten(1)[:, :CLASSES]) == []
    assert Undefended(encoder_of(net())).views() == (View.control, View.adaptive, View.query)


def test_a_network_of_a_closure_is_a_part_and_opens_the_view() -> None:
    inner = net()
    made = encoder_of(lambda x: inner(x).softmax(dim=1).round())
    assert View.parts in Undefended(made).views()


def test_a_part_answers_for_every_call_and_passes_by_what_cuts_its_gradient() -> None:
    inner = net()
    turned = encoder_of(lambda x: (inner(x) > 0).float() + (inner(x.flip(-1)) > 0).float())
    (part,) = turned.parts
    torch.testing.assert_close(part(X), (inner(X) + inner(X.flip(-1))) / 2)
    cut = encoder_of(lambda x: inner((x.detach() * 8).round() / 8).round())
    (part,) = cut.parts
    leaf = X.clone().requires_grad_()
    part(leaf).sum().backward()
    assert leaf.grad is not None and leaf.grad.abs().sum() > 0
    torch.testing.assert_close(part(X), inner((X * 8).round() / 8))
