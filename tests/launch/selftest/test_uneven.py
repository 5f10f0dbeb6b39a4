"""Shards of different sizes."""

from __future__ import annotations

from pathlib import Path

from data.catalog import open_images
from data.sample import digits
from launch.selftest.uneven import SIZES, write_uneven


def test_seven_shards_hold_every_sample_once(tmp_path: Path) -> None:
    folder = write_uneven(tmp_path / "uneven")
    source = open_images(str(folder / "{0..6}.tar"), "train", 32)
    assert len(SIZES) == 7 and len(set(SIZES)) == 7
    assert sorted(source.keys) == sorted(digits("test", sum(SIZES)).keys)
