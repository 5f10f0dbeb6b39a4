from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from modules import noise
from modules.attacks.apgd import APGD
from modules.attacks.base import Search
from modules.attacks.embedding import Distance, EmbeddingAttack, divergence
from modules.encoders.base import ImageEncoder
from modules.perturb import Threat
from modules.perturb.losses import cosine_distance, squared_l2
from tests.modules.toys import ConvEncoder, LinearEncoder, classifier, images

X = images(5)
BALL = Threat("linf", 0.03)


class Spy(ImageEncoder):
    """Another encoder, which remembers what it was asked about and when a batch was new."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder, self.asked = encoder, []
        self.embedding_dim, self.image_size = encoder.embedding_dim, encoder.image_size

    def encode_image(self, x: Tensor) -> Tensor:
        self.asked.append(x.detach())
        return self.encoder.encode_image(x)


class Noisy(ConvEncoder):
    def encode_image(self, x: Tensor) -> Tensor:
        return super().encode_image(x + 0.05 * noise.normal(x, "defence"))


class Voting(ConvEncoder):
    """Averages the logits of two looks."""

    def logits(self, x: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        return (head(self.encode_image(x)) + head(self.encode_image(x.flip(3)))) / 2


def labels_of(model: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.no_grad():
        return model(X).argmax(dim=1)


@pytest.mark.parametrize(("distance", "measure"), [("cosine", cosine_distance), ("squared_l2", squared_l2)])
def test_it_walks_where_auto_pgd_walks_on_the_distance_of_embeddings(
    distance: Distance, measure: Callable[[Tensor, Tensor], Tensor]
) -> None:
    spy, plain = Spy(ConvEncoder()), Spy(ConvEncoder())
    EmbeddingAttack(BALL, steps=6, distance=distance)(classifier(spy), X, labels_of(classifier(spy.encoder)))
    with torch.no_grad():
        z0 = plain.encoder.encode_image(X)
    APGD(BALL, steps=6).perturb(lambda x: measure(plain.encode_image(x), z0), X, "0/0")
    walked = torch.stack(spy.asked[2:])  # before: the images themselves, for the logits and for the embedding
    assert torch.equal(walked[:-1], torch.stack(plain.asked))


def test_on_a_linear_encoder_the_farthest_point_of_an_l2_ball_is_along_the_first_singular_vector() -> None:
    encoder = LinearEncoder(dim=5)
    spy, ball = Spy(encoder), Threat("l2", 0.3)
    x = torch.full((3, 3, 4, 4), 0.5)
    EmbeddingAttack(ball, steps=100, distance="squared_l2")(classifier(spy), x, torch.zeros(3, dtype=torch.long))
    with torch.no_grad():
        reached = torch.stack([squared_l2(encoder(asked), encoder(x)) for asked in spy.asked]).amax(dim=0)
    farthest = (0.3 * torch.linalg.matrix_norm(encoder.weight.detach(), ord=2)) ** 2
    assert (reached <= farthest * 1.0001).all() and (reached >= 0.99 * farthest).all()


def test_on_one_dimension_the_farthest_point_of_an_linf_ball_is_the_sign_of_the_weights() -> None:
    encoder = LinearEncoder(dim=1)
    spy, x = Spy(encoder), torch.full((3, 3, 4, 4), 0.5)
    EmbeddingAttack(BALL, steps=20, distance="squared_l2")(classifier(spy), x, torch.zeros(3, dtype=torch.long))
    with torch.no_grad():
        reached = torch.stack([squared_l2(encoder(asked), encoder(x)) for asked in spy.asked]).amax(dim=0)
    assert torch.allclose(reached, (0.03 * encoder.weight.detach().abs().sum()) ** 2, rtol=1e-3)


def test_its_way_does_not_depend_on_the_labels() -> None:
    ways = []
    for y in (torch.zeros(5, dtype=torch.long), torch.tensor([3, 1, 4, 1, 5])):
        spy = Spy(ConvEncoder())
        EmbeddingAttack(BALL, steps=5)(classifier(spy), X, y)
        ways.append(torch.stack(spy.asked[:-1]))  # the last is the point that is handed back
    assert torch.equal(*ways)


def test_a_classifier_without_an_encoder_is_moved_away_from_its_clean_prediction() -> None:
    model, asked = classifier(ConvEncoder()), []

    def bare(x: Tensor) -> Tensor:
        asked.append(x.detach())
        return model(x)

    EmbeddingAttack(BALL, steps=6)(bare, X, labels_of(model))
    plain = list(asked)
    asked.clear()
    with torch.no_grad():
        clean = model(X)
    APGD(BALL, steps=6).perturb(lambda x: divergence(bare(x), clean), X, "0/0")
    assert torch.equal(torch.stack(plain[2:-1]), torch.stack(asked))


def test_the_divergence_is_the_one_of_kullback_and_leibler() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, clean = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    by_hand = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=clean), torch.distributions.Categorical(logits=logits)
    )
    assert torch.allclose(divergence(logits, clean), by_hand)
    assert torch.allclose(divergence(clean, clean), torch.zeros(4, dtype=torch.float64))


def test_several_looks_and_draws_are_averaged() -> None:
    first, second, ball = classifier(ConvEncoder()), classifier(ConvEncoder(seed=5)), Threat("l2", 0.2)
    search = Search((first, second), X, labels_of(first), ball)
    before = (search.looks, search.loss, search.labels)
    with torch.no_grad():
        a0, b0 = first.encoder.encode_image(X), second.encoder.encode_image(X)
    attack = EmbeddingAttack(ball)
    with attack._aimed_at_embeddings(search, X):
        x = (X + 0.01).clamp(0, 1)
        found = search(x)
    by_hand = cosine_distance(first.encoder.encode_image(x), a0) + cosine_distance(second.encoder.encode_image(x), b0)
    assert torch.allclose(found, by_hand / 2, atol=1e-6)
    assert (search.looks, search.loss, search.labels) == before


def test_with_noise_every_draw_is_measured_from_the_mean_clean_embedding() -> None:
    model = classifier(Noisy())
    x_adv = EmbeddingAttack(BALL, steps=4)(model, X, labels_of(model), draws=3, compact=True)
    assert BALL.contains(X, x_adv).all()
    again = EmbeddingAttack(BALL, steps=4)(model, X, labels_of(model), draws=3, compact=True)
    assert torch.equal(x_adv, again)


def test_an_encoder_that_votes_is_asked_for_its_embedding() -> None:
    model = classifier(Voting())
    search = Search(model, X, labels_of(model), BALL)
    with torch.no_grad():
        z0 = model.encoder.encode_image(X)
    with EmbeddingAttack(BALL)._aimed_at_embeddings(search, X):
        x = (X + 0.02).clamp(0, 1)
        assert torch.allclose(search(x), cosine_distance(model.encoder.encode_image(x), z0), atol=1e-6)


def test_an_error_on_the_way_leaves_the_search_as_it_was() -> None:
    model = classifier(ConvEncoder())
    search = Search(model, X, labels_of(model), BALL)
    with pytest.raises(RuntimeError), EmbeddingAttack(BALL)._aimed_at_embeddings(search, X):
        raise RuntimeError
    assert search.looks == (model,)


def test_an_unknown_distance_is_named() -> None:
    with pytest.raises(ValueError, match="unknown distance 'l7'; choose one of: squared_l2, cosine"):
        EmbeddingAttack(Threat(), distance="l7")  # type: ignore[arg-type]
