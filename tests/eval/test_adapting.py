"""Models that adapt at test time are evaluated as they say: put back before every image, or every batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eval.adapting import Adapting
from tests.modules.toys import images

X = images(6)


class Follows(nn.Module):
    """Takes the mean of all images that it has seen off every image."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.seen = torch.zeros(3, 8, 8), 0

    def forward(self, x: Tensor) -> Tensor:
        self.mean = (self.mean * self.seen + x.detach().sum(dim=0)) / (self.seen + len(x))
        self.seen += len(x)
        return (x - self.mean).flatten(1)[:, :4]


class Resets(Follows):
    def reset(self) -> None:
        self.mean, self.seen = torch.zeros(3, 8, 8), 0


@pytest.mark.parametrize("make", [Follows, Resets])
def test_one_that_is_put_back_before_every_image_answers_for_each_alone(make: type[Follows]) -> None:
    model = Adapting(make(), adapts="image")
    assert torch.equal(model(X), torch.zeros(6, 4))  # each image is all that it has ever seen
    assert torch.equal(model(X[:2]), model(X)[:2])


@pytest.mark.parametrize("make", [Follows, Resets])
def test_one_that_is_put_back_before_every_batch_adapts_over_it_and_forgets_the_last(make: type[Follows]) -> None:
    model = Adapting(make(), adapts="stream")
    expected = (X - X.mean(dim=0)).flatten(1)[:, :4]
    for _ in range(2):
        torch.testing.assert_close(model(X), expected)


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown adapts 'batch'; choose one of: image, stream"):
        Adapting(Follows(), adapts="batch")  # pyright: ignore[reportArgumentType]
