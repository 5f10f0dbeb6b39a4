from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from data.sample import CLASSES, SPLITS, TEMPLATES, captions, digits
from data.source import ArrayImages


def test_the_splits_share_no_picture_and_hold_all() -> None:
    sources = {split: digits(split) for split in SPLITS}
    assert {split: len(s) for split, s in sources.items()} == {
        "train": 1197,
        "tune": 300,
        "test": 300,
    }
    keys = [key for source in sources.values() for key in source.keys]
    assert sorted(keys) == [f"digits-{i:04d}" for i in range(1797)]
    contents = [{p.tobytes() for p in source.pixels} for source in sources.values()]
    assert sum(map(len, contents)) == len(set.union(*contents)) == 1797


def test_every_split_holds_every_class_about_equally_often() -> None:
    for split in SPLITS:
        shares = np.bincount(digits(split).labels, minlength=10) / len(digits(split))
        assert shares.min() > 0.07
        assert shares.max() < 0.13


def test_pictures_and_labels_are_those_of_scikit_learn() -> None:
    values, labels = load_digits(return_X_y=True)
    source = digits("tune")
    for i in (0, 150, 299):
        number = int(source.keys[i][-4:])
        assert source.labels[i] == labels[number]
        small = np.rint(np.asarray(values)[number].reshape(8, 8) * 255 / 16).astype(np.uint8)
        large = np.asarray(Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC))
        softer = np.rint(25.5 + 0.8 * large)  # from a tenth to nine tenths of the range
        assert np.array_equal(source.pixels[i], np.stack([softer] * 3, axis=-1))


def test_the_split_is_fixed_forever() -> None:
    assert digits("test").keys[:4] == ["digits-1526", "digits-0833", "digits-0235", "digits-0651"]


def test_a_limit_takes_the_first_pictures() -> None:
    assert digits("test", 7).keys == digits("test").keys[:7]
    assert digits("test", 10_000).keys == digits("test").keys


def test_another_size_is_scaled() -> None:
    assert digits("test", 3, image_size=48)[0].x.shape == (3, 48, 48)
    assert torch.equal(digits("test", 3, image_size=32)[2].x, digits("test", 3)[2].x)


def test_captions_name_the_class_in_a_template_that_only_the_key_chooses() -> None:
    source = digits("train", 400)
    written = captions(source)
    assert written[:5] == captions(digits("train", 5))
    allowed = {(y, t.replace("{}", CLASSES[y])) for y in range(10) for t in TEMPLATES}
    assert set(zip(source.labels, written, strict=True)) <= allowed
    used = [sum(text in {t.replace("{}", c) for c in CLASSES} for text in written) for t in TEMPLATES]
    assert min(used) > 35  # of 400 / 6 = 67 expected
    assert sum(used) == 400


def test_no_two_classes_share_a_prompt() -> None:
    prompts = [template.replace("{}", name) for template in TEMPLATES for name in CLASSES]
    assert len(set(prompts)) == len(prompts)


def test_unknown_splits_and_captions_without_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown split 'val' of digits; choose one of: test, train, tune"):
        digits("val")
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="no class names or no templates"):
        captions(ArrayImages(pixels, [0], ["k"]))
    with pytest.raises(ValueError, match="sample 'k' of 'array' has no label"):
        captions(ArrayImages(pixels, [-1], ["k"], classes=["a"], templates=["{}"]))
