"""``~`` in paths, also where there is no home folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.home import at_home, text_at_home


def test_the_home_folder_is_put_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert at_home("~/a b") == Path("/home/me/a b") and at_home(Path("~")) == Path("/home/me")
    assert at_home("a/~b") == Path("a/~b")
    assert text_at_home("local-dir:~/m") == "local-dir:/home/me/m" and text_at_home("ViT-L-14") == "ViT-L-14"


def test_a_home_folder_that_is_not_known_costs_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cannot expand '~nobody-of-this-name/x': there is no user"):
        at_home("~nobody-of-this-name/x")

    def unknown(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(ValueError, match="HOME is not set"):
        at_home("~/x")


def test_a_file_that_begins_with_a_tilde_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "~old").touch()
    monkeypatch.chdir(tmp_path)
    assert at_home("~old") == Path("~old")
