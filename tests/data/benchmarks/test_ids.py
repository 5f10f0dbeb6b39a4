from __future__ import annotations

from pathlib import Path

import pytest

from data.benchmarks.ids import keys_of, read_ids


def test_a_list_keeps_its_order_and_may_not_be_empty(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("b/2.JPEG\n\n a/1.JPEG \n")
    assert read_ids(tmp_path / "ids.txt") == ["b/2.JPEG", "a/1.JPEG"]
    (tmp_path / "ids.txt").write_text("\n")
    with pytest.raises(ValueError, match="names no image"):
        read_ids(tmp_path / "ids.txt")


def test_an_id_is_a_key_or_the_only_one_with_its_file_name() -> None:
    ids = ["n1/val_2.JPEG", "n1/val_1.JPEG"]
    assert keys_of(ids, ["n1/val_1.JPEG", "n1/val_2.JPEG"]) == ids
    assert keys_of(ids, ["val_1", "val_2", "val_3"]) == ["val_2", "val_1"]
    assert keys_of(ids, ["x/val_1.png", "y/val_1.png"]) == ids  # nobody can say which
