"""Contrastive pretraining: CLIP's loss with several right captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.lightning.optim import OptimizerSettings
from modules.lightning.pretraining import ContrastivePretraining, multi_positive_contrastive


def unit(rows: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1)


def test_with_one_caption_each_it_is_clips_loss() -> None:
    image, text, scale = unit(5, 8, 0), unit(5, 8, 1), torch.tensor(7.0)
    logits = scale * image @ text.T
    own = torch.arange(5)
    by_clip = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(multi_positive_contrastive(image, text, scale, torch.eye(5, dtype=torch.bool)), by_clip)


def test_with_several_right_captions_each_gets_an_equal_share() -> None:
    image, text, scale = unit(4, 8, 2), unit(4, 8, 3), torch.tensor(3.0)
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    total = 0.0
    for logits in (scale * image @ text.T, scale * text @ image.T):
        chance = logits.softmax(dim=1)
        for i in range(4):
            right = [j for j in range(4) if same[i, j]]
            total += sum(-float(chance[i, j].log()) for j in right) / len(right) / 4 / 2
    assert float(multi_positive_contrastive(image, text, scale, same)) == pytest.approx(total, rel=1e-9)


class Model(nn.Module):
    """A CLIP of two linear maps."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.picture = nn.Parameter(torch.randn(8, 12, generator=generator))
        self.words = nn.Parameter(torch.randn(64, 8, generator=generator))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.seen: list[Tensor] = []

    def encode_image(self, x: Tensor, normalize: bool) -> Tensor:
        self.seen.append(x)
        return F.normalize(x.flatten(1) @ self.picture.T, dim=1)

    def encode_text(self, ids: Tensor, normalize: bool) -> Tensor:
        return F.normalize(self.words[ids].mean(dim=1), dim=1)


@dataclass
class Pictures:
    x: Tensor
    y: Tensor
    key: tuple[str, ...]


class Recorder:
    def __init__(self) -> None:
        self.captions: list[list[str]] = []

    def __call__(self, captions: list[str]) -> Tensor:
        self.captions.append(captions)
        return torch.tensor([[ord(letter) % 64 for letter in text.ljust(12)[:12]] for text in captions])


def training() -> tuple[ContrastivePretraining, Model, Recorder]:
    model, tokenizer = Model(), Recorder()
    module = ContrastivePretraining(
        model,
        tokenizer,
        ["cat", "dog"],
        ["a {}", "the {}", "one {}", "my {}"],
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        settings=OptimizerSettings(lr=0.05, warmup_steps=0, max_steps=50),
    )
    module.log = lambda *args, **kwargs: None
    return module, model, tokenizer


def batch(*rows: int) -> Pictures:
    x = torch.rand(40, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    index = list(rows) or list(range(40))
    return Pictures(x[index], torch.tensor([i % 2 for i in index]), tuple(f"k{i}" for i in index))


def test_each_picture_gets_its_class_in_a_template_of_its_own() -> None:
    module, model, tokenizer = training()
    module.training_step(batch(), 0)
    (captions,) = tokenizer.captions
    assert [caption.split()[1] for caption in captions] == ["cat", "dog"] * 20
    assert {caption.split()[0] for caption in captions} == {"a", "the", "one", "my"}
    torch.testing.assert_close(model.seen[0], (batch().x - 0.5) / 0.25)


def test_the_template_belongs_to_picture_and_step() -> None:
    module, _, tokenizer = training()
    module.training_step(batch(), 0)
    module.training_step(batch(7, 3), 0)
    whole, part = tokenizer.captions
    assert part == [whole[7], whole[3]]
    step = 5
    module.__class__ = type("Later", (ContrastivePretraining,), {"global_step": property(lambda self: step)})
    module.training_step(batch(), 0)
    assert tokenizer.captions[-1] != whole


def test_the_loss_falls() -> None:
    module, _, _ = training()
    optimizer: Any = module.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = module.training_step(batch(), 0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
