"""Files of weights that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.weights_file import read_content


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "is empty; fetch it again"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "pointer of Git LFS .* git lfs pull",
        ),
        ("<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page and not the weights"),
        ('\n<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page and not the weights"),
    ],
)
def test_what_a_failed_download_leaves_is_named(content: str, line: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"encoder{suffix}"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=line) as caught:
        read_content(file)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
