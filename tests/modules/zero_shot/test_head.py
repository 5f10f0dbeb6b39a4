"""Class names into weights."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.zero_shot import ZeroShotClassifier, ZeroShotHead, blank_embedding, class_embeddings
from tests.modules.toys import ConvEncoder, head, images


class Letters:
    """A text tower that counts letters, and the texts it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.asked += texts
        counts = [[text.count(letter) + 0.1 for letter in "abcde"] for text in texts]
        return F.normalize(torch.tensor(counts), dim=1)


def test_a_class_is_the_normalised_mean_of_its_normalised_prompts() -> None:
    tower = Letters()
    weights = class_embeddings(tower, ["cab", "bed"], ["a {}", "{} dad"])
    by_hand = F.normalize(
        torch.stack([tower.encode_text([f"a {n}", f"{n} dad"]).mean(0) for n in ("cab", "bed")]), dim=1
    )
    assert torch.allclose(weights, by_hand)
    assert tower.asked[:4] == ["a cab", "cab dad", "a bed", "bed dad"]


def test_many_prompts_are_encoded_in_pieces_with_the_same_result() -> None:
    names = [f"{'a' * (i % 7)}b{'c' * i}" for i in range(200)]
    weights = class_embeddings(Letters(), names, ["{} a", "b {}", "c {} d"])
    assert torch.allclose(weights[150], class_embeddings(Letters(), names[150:151], ["{} a", "b {}", "c {} d"])[0])


def test_classes_that_read_the_same_are_tied_on_any_machine() -> None:
    class Rounding(Letters):
        def encode_text(self, texts: Sequence[str]) -> Tensor:
            return super().encode_text(texts) + 1e-6 * torch.arange(len(texts))[:, None]

    tower, names = Rounding(), ["cab", "bed", "cab"]
    weights = class_embeddings(tower, names, ["a {}"], ties=True)
    assert tower.asked == ["a cab", "a bed"] and torch.equal(weights[0], weights[2])
    weights[2] += torch.tensor([1e-6, 0, 0, 0, 0])
    logits = ZeroShotHead(weights, names)(torch.rand(7, 5, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(logits[:, 0], logits[:, 2]) and not torch.equal(logits[:, 0], logits[:, 1])


def test_the_blank_embedding_is_the_plain_mean_of_the_templates_without_a_class() -> None:
    tower = Letters()
    blank = blank_embedding(tower, ["a {}.", "bad {}"])
    assert tower.asked == ["a .", "bad "]
    assert torch.allclose(blank, Letters().encode_text(["a .", "bad "]).mean(0))


def test_logits_are_scaled_cosines() -> None:
    encoder, zero_shot, x = ConvEncoder(), head(16, scale=7.0), images()
    logits = ZeroShotClassifier(encoder, zero_shot)(x)
    assert torch.allclose(
        logits, 7 * F.cosine_similarity(encoder(x)[:, None], zero_shot.weights[None], dim=2), atol=1e-5
    )
    assert torch.allclose(zero_shot(3 * encoder(x)), logits, atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "templates", "told"),
    [
        (["cat", "dog", "cat"], ["a {}"], "classes 0 and 2 are both 'cat'"),
        ([], ["a {}"], "not 0 and 1"),
        (["cat"], [], "not 1 and 0"),
        (["cat"], ["a photo"], "must hold one"),
        (["cat"], ["{} and {}"], "must hold one"),
    ],
)
def test_lists_that_make_no_classifier_are_refused(classes: list[str], templates: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        class_embeddings(Letters(), classes, templates)


def test_a_head_knows_its_classes() -> None:
    assert ZeroShotHead(torch.eye(3), ["a", "b", "c"]).classes == ["a", "b", "c"]


def test_logits_are_whole_under_autocast() -> None:
    """A bfloat16 holds three digits; a cosine times 100 needs more."""
    z = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    logits = ZeroShotHead(weights, list("abcd"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (z @ weights.T).dtype == torch.bfloat16, "autocast does nothing here"
        under = logits(z)
    assert under.dtype == torch.float32 and torch.equal(under, logits(z))
