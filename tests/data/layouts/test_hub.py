from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.layouts.hub import parquet_images
from tests.data.layouts.miniatures import parquet, pixels

pytest.importorskip("pyarrow", reason="pyarrow is an extra")


def test_rows_of_all_files_come_in_order_with_the_names_of_the_schema(tmp_path: Path) -> None:
    x, y = pixels(5, 32), [0, 1, 1, 0, 1]
    parquet(tmp_path, x, y, ["cat", "dog"])
    for root in (tmp_path, tmp_path / "data"):
        found = parquet_images(root, "test")
        assert found is not None
        assert (list(found.labels), list(found.classes)) == (y, ["cat", "dog"])
        assert all(np.array_equal(np.asarray(found.picture(i)), x[i]) for i in range(5))
    assert parquet_images(tmp_path, "train") is None


def test_files_without_names_or_damaged_are_refused_with_the_remedy(tmp_path: Path) -> None:
    parquet(tmp_path, pixels(2, 8), [0, 1], None)
    with pytest.raises(ValueError, match=r"names no classes; put a classnames\.txt"):
        parquet_images(tmp_path, "test")
    (tmp_path / "data/test-00000-of-00002.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="damaged parquet file"):
        parquet_images(tmp_path, "test")
