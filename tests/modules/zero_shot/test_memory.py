"""What a text tower has said is what it would say again, and anything else is asked anew."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules.encoders.clip import TextEncoder
from modules.encoders.tiny import load_tiny
from modules.zero_shot import TextMemory, blank_embedding, class_embeddings, memory
from tests.modules.zero_shot.test_head import Letters

CLASSES, TEMPLATES = ["three", "four", "five"], ["a {}", "the digit {}"]


class Counting(nn.Module):
    """The embedded text tower, and how many texts it has encoded."""

    def __init__(self) -> None:
        super().__init__()
        text = load_tiny().text
        assert text is not None
        self.text: TextEncoder = text
        self.texts = 0

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.texts += len(texts)
        return self.text.encode_text(texts)


@pytest.fixture(scope="module")
def tower() -> Counting:
    """Loaded once; whoever changes it takes a copy."""
    return Counting()


@pytest.fixture
def worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six texts are worth a file."""
    monkeypatch.setattr(memory, "WORTH", 6)


def asked(tower: Counting, ask: Callable[[], Any]) -> tuple[Any, int]:
    """An answer, and how many texts were encoded for it, the two that name a tower left out."""
    before = tower.texts
    answer = ask()
    return answer, (tower.texts - before) // 3 * 3  # six for a head, and two of a name never make three


def test_a_second_question_is_answered_bit_for_bit_without_the_tower(tower: Counting) -> None:
    kept, plain = TextMemory(), class_embeddings(tower, CLASSES, TEMPLATES)
    first, encoded = asked(tower, lambda: class_embeddings(tower, CLASSES, TEMPLATES, memory=kept))
    assert torch.equal(first, plain) and encoded == 6
    before = tower.texts
    first.zero_()  # whoever gets an answer may write to it
    assert torch.equal(class_embeddings(tower, CLASSES, TEMPLATES, memory=kept), plain)
    blank = blank_embedding(tower, TEMPLATES, memory=kept)
    assert torch.equal(blank, blank_embedding(tower, TEMPLATES)) and tower.texts == before + 4
    assert torch.equal(blank_embedding(tower, TEMPLATES, memory=kept), blank) and tower.texts == before + 4


@pytest.mark.parametrize(
    ("classes", "templates"),
    [(["three", "four"], TEMPLATES), (CLASSES, ["a {}", "one {}"]), (CLASSES[::-1], TEMPLATES)],
)
def test_other_classes_or_templates_are_another_question(
    tower: Counting, classes: list[str], templates: list[str]
) -> None:
    kept = TextMemory()
    class_embeddings(tower, CLASSES, TEMPLATES, memory=kept)
    found = class_embeddings(tower, classes, templates, memory=kept)
    assert torch.equal(found, class_embeddings(tower, classes, templates))


def test_a_fault_is_told_however_often(tower: Counting) -> None:
    kept = TextMemory()
    for _ in range(2):
        with pytest.raises(ValueError, match="their prompts are identical"):
            class_embeddings(tower, ["one", "one"], TEMPLATES, memory=kept)


def test_a_tower_with_the_same_weights_answers_for_another_and_one_that_was_written_to_does_not(
    tower: Counting,
) -> None:
    kept = TextMemory()
    first = class_embeddings(tower, CLASSES, TEMPLATES, memory=kept)
    twin = copy.deepcopy(tower)
    again, encoded = asked(twin, lambda: class_embeddings(twin, CLASSES, TEMPLATES, memory=kept))
    assert torch.equal(again, first) and encoded == 0
    with torch.no_grad():
        next(twin.text.model.parameters()).mul_(1.5)
    changed = class_embeddings(twin, CLASSES, TEMPLATES, memory=kept)
    assert not torch.equal(changed, first)
    assert torch.equal(changed, class_embeddings(twin, CLASSES, TEMPLATES))
    assert torch.equal(class_embeddings(tower, CLASSES, TEMPLATES, memory=kept), first)


def test_equal_weights_with_another_activation_are_another_tower(tower: Counting) -> None:
    kept, other = TextMemory(), copy.deepcopy(tower)
    for block in other.text.model.transformer.resblocks:  # pyright: ignore
        block.mlp.gelu = nn.ReLU()
    first = class_embeddings(tower, CLASSES, TEMPLATES, memory=kept)
    second = class_embeddings(other, CLASSES, TEMPLATES, memory=kept)
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.equal(second, class_embeddings(other, CLASSES, TEMPLATES))


def test_what_has_no_weights_is_always_asked() -> None:
    letters, kept = Letters(), TextMemory()
    for _ in range(2):
        class_embeddings(letters, CLASSES, TEMPLATES, memory=kept)
    assert len(letters.asked) == 12


@pytest.mark.usefixtures("worth")
def test_a_large_answer_outlasts_the_process_and_a_small_one_does_not(tower: Counting, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    first = class_embeddings(tower, CLASSES, TEMPLATES, memory=TextMemory(folder))
    blank_embedding(tower, TEMPLATES, memory=TextMemory(folder))
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]
    again, encoded = asked(tower, lambda: class_embeddings(tower, CLASSES, TEMPLATES, memory=TextMemory(folder)))
    assert torch.equal(again, first) and encoded == 0


@pytest.mark.usefixtures("worth")
@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "other"])
def test_a_damaged_file_is_told_and_replaced(
    tower: Counting, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = class_embeddings(tower, CLASSES, TEMPLATES, memory=TextMemory(tmp_path))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    if damage == "other":  # a whole file in another's place
        class_embeddings(tower, CLASSES[::-1], TEMPLATES, memory=TextMemory(tmp_path))
        (other,) = set(tmp_path.iterdir()) - {path}
        other.replace(path)
    else:
        path.write_bytes({"cut": whole[:-1], "bit": bytes(flipped), "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        again = class_embeddings(tower, CLASSES, TEMPLATES, memory=TextMemory(tmp_path))
    assert torch.equal(again, first) and path.read_bytes() == whole
    assert "its texts are encoded anew" in caplog.text


@pytest.mark.usefixtures("worth")
def test_a_folder_that_cannot_be_written_is_no_fault(tower: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = class_embeddings(tower, CLASSES, TEMPLATES, memory=TextMemory(tmp_path / "file" / "texts"))
    assert torch.equal(found, class_embeddings(tower, CLASSES, TEMPLATES))


def test_memory_and_folder_stay_bounded(monkeypatch: pytest.MonkeyPatch, tower: Counting, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "WORTH", 1)
    monkeypatch.setattr(memory, "_FILES", 3)
    monkeypatch.setattr(memory, "_BYTES", 4 * 2 * 128)
    kept = TextMemory(tmp_path)
    for number in range(6):
        class_embeddings(tower, [f"a{number}", f"b{number}"], ["{}"], memory=kept)
    assert len(list(tmp_path.iterdir())) == 3
    assert len(kept._answers) == 1
