"""Examples show what happened, and survive their files."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from data.batches import ImageBatch
from eval.examples import Example, take_examples, write_examples
from eval.outcomes import Cell
from modules.defenses.base import Defense, Undefended
from tests.modules.toys import ConvEncoder, images

WEAK, STRONG = Cell("dim", "pgd", "bpda", 0.1), Cell("dim", "apgd", "eot", 0.1)


class Dim(Defense):
    def purify_pixels(self, x: Tensor) -> Tensor:
        return x / 2


def brightness_class(defense: Defense, x: Tensor) -> Tensor:
    """1 for bright images, 0 for dark ones."""
    return (x.flatten(1).mean(dim=1) > 0.5).long()


def taken() -> tuple[list[Example], dict[Cell, Tensor], ImageBatch]:
    x = images(3) * 0.1
    batch = ImageBatch(x, torch.zeros(3, dtype=torch.int64), ("a", "b", "c"))
    bright = torch.ones_like(x)
    adversarial = {
        Cell("dim"): x,
        WEAK: torch.cat([bright[:1], x[1:]]),
        STRONG: torch.cat([bright[:2], x[2:]]),
        Cell("bare", "apgd", "adaptive", 0.1): x + 0.01,
    }
    encoder = ConvEncoder()
    defenses = {"dim": Dim(encoder), "bare": Undefended(encoder), "idle": Undefended(encoder)}
    make = partial(Example, encoder="E", norm="linf", classes=["dark", "bright"])
    return take_examples(batch, adversarial, defenses, brightness_class, nullcontext, make), adversarial, batch


def test_each_defence_shows_the_attack_that_fooled_it_most() -> None:
    (dim, bare), adversarial, batch = taken()  # nothing attacked the idle one
    assert (dim.defense, dim.attack, dim.view, dim.eps) == ("dim", "apgd", "eot", 0.1)
    assert (bare.defense, bare.attack) == ("bare", "apgd")
    assert dim.prediction_clean == dim.label == [0, 0, 0]
    assert dim.prediction_adversarial == [1, 1, 0]
    assert torch.equal(dim.tensors["clean"], batch.x)
    assert torch.equal(dim.tensors["adversarial"], adversarial[STRONG])


def test_a_purified_picture_is_shown_where_pixels_move() -> None:
    (dim, bare), adversarial, _ = taken()
    assert torch.equal(dim.tensors["purified"], adversarial[STRONG] / 2)
    assert dim.prediction_purified == dim.prediction_adversarial
    assert "purified" not in bare.tensors
    assert bare.prediction_purified is None


def test_examples_are_read_back_from_their_files(tmp_path: Path) -> None:
    examples, _, _ = taken()
    write_examples(tmp_path, examples)
    entries = json.loads((tmp_path / "examples.json").read_text())
    assert [entry["defense"] for entry in entries] == ["dim", "bare"]
    for entry, example in zip(entries, examples, strict=True):
        tensors = load_file(tmp_path / entry["file"])
        for name, value in example.tensors.items():
            assert torch.equal(tensors[f"{entry['prefix']}/{name}"], value)
        assert entry["label"] == example.label
        assert entry["classes"] == ["dark", "bright"]
