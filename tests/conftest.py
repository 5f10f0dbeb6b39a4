"""Shared ground of the tests: assertions that count, the import hook, and one thread."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

# One thread here and in the processes that tests start, unless the caller says another number.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from hypothesis import HealthCheck, settings

import modules  # noqa: F401  (its import hook must be in place before torchvision is imported)

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # Hypothesis would fail what takes 0.2 s beside other work


SHARED = Path("/dev/shm")
LEAST_SHARED = 16 * 2**20
"""Bytes of shared memory; processes that read data for a training hand batches over in it."""


def pytest_configure() -> None:
    """Refuse to run where assertions are taken away and every test would pass, or where some cannot."""
    if not __debug__:
        raise pytest.UsageError("these tests are assertions, which python -O and PYTHONOPTIMIZE take away")
    if sys.platform == "linux" and (not SHARED.is_dir() or shutil.disk_usage(SHARED).free < LEAST_SHARED):
        raise pytest.UsageError(f"{SHARED} has less than 16 MB of shared memory; give more (docker run --shm-size=1g)")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never download."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
