from __future__ import annotations

import numpy as np
import pytest

from data.source import ArrayImages, choose_images


def _array(count: int = 10, **changes: object) -> ArrayImages:
    arguments: dict = {
        "pixels": np.arange(count * 12, dtype=np.uint8).reshape(count, 2, 2, 3),
        "labels": [i % 3 for i in range(count)],
        "keys": [f"k{i}" for i in range(count)],
        "classes": ["a", "b", "c"],
        "captions": [f"text {i}" for i in range(count)],
    }
    arguments.update(changes)
    return ArrayImages(arguments.pop("pixels"), arguments.pop("labels"), arguments.pop("keys"), **arguments)


def test_arrays_give_their_pixels_label_key_and_caption() -> None:
    sample = _array()[4]
    assert (sample.y, sample.key, sample.caption) == (1, "k4", "text 4")
    assert (sample.x * 255).round().flatten().tolist() == [48 + i for k in range(3) for i in range(k, 12, 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": np.zeros((10, 2, 2, 3), np.float32)}, "must be .* uint8, not"),
        ({"pixels": np.zeros((10, 3, 2, 2), np.uint8)}, r"\[N, H, W, 3\]"),
        ({"pixels": np.zeros((9, 2, 2, 3), np.uint8)}, "unique key for each of its 9"),
        ({"keys": ["same"] * 10}, "unique key"),
        ({"captions": ["short"]}, "label and a unique key"),
        ({"labels": [3] * 10}, r"sample 'k0' has label 3; 3 classes allow -1\.\.2"),
        ({"labels": [-2] * 10}, "label -2"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _array(**changes)


def test_duplicate_classes_are_named_with_their_lines() -> None:
    with pytest.raises(ValueError, match="'crane' on lines 1, 3; 'maillot' on lines 2, 4;"):
        _array(classes=["crane", "maillot", "crane", "maillot"])


def test_a_choice_is_spread_over_a_sorted_source_and_keeps_its_order() -> None:
    source = _array(20, labels=[i // 10 for i in range(20)])
    chosen = choose_images(source, 8, seed=0)
    numbers = [int(key[1:]) for key in chosen.keys]
    assert numbers == sorted(set(numbers))
    assert {chosen[i].y for i in range(8)} == {0, 1}
    assert [chosen[i].key for i in range(8)] == chosen.keys
    assert chosen.classes == source.classes
    assert choose_images(source, 8, seed=0).keys == chosen.keys
    assert choose_images(source, 8, seed=1).keys != chosen.keys


def test_a_choice_of_all_is_the_source_itself() -> None:
    source = _array()
    assert choose_images(source, None) is source
    assert choose_images(source, 10) is source
