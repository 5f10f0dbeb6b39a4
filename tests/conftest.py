"""Shared ground of the tests: the import hook, one thread, and small models."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

import modules  # noqa: F401  (its import hook must be in place before torchvision is imported)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never download."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
