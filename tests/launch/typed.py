"""The command line in this process, as a person types it."""

from __future__ import annotations

import sys

import pytest

from launch import cli


def typed(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of ``robustclip`` with these words."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["robustclip", *map(str, words)])
        try:
            cli.main()
        except SystemExit as leave:
            return int(leave.code or 0)
    return 0
