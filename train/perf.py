"""How fast a training is: samples a second, waiting for data, memory, and the share of the device's peak."""

from __future__ import annotations

import resource
import sys
import time

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import Profiler

from train.peaks import peak_of_device

_FETCH = "train_dataloader_next"
_ASIDE = ("on_train_start", "on_train_batch_start", "on_train_batch_end")  # of callbacks that evaluate and save
_OWN = "[Callback]MetricsTable"


class Speedometer(Profiler):
    """Lightning's profiler, of which only the clock is used: no device is waited for.

    Time in which callbacks evaluate, validate or save does not count.

    Args:
        flops: operations of one sample; None if unknown.
        peak: of one device in TFLOP/s; None takes that of a known GPU.
        precision: Lightning's word, which a GPU's peak depends on.
    """

    def __init__(self, *, flops: float | None = None, peak: float | None = None, precision: str = "32-true") -> None:
        super().__init__()
        self.flops, self.peak, self.precision = flops, peak, precision
        self._begun: dict[str, float] = {}
        self._waited = self._aside = 0.0
        self._mark: float | None = None
        self._samples = 0

    def start(self, action_name: str) -> None:
        """Look at the clock where an action is of interest."""
        if action_name.endswith(_FETCH) or _is_aside(action_name):
            self._begun[action_name] = now = time.perf_counter()
            self._mark = now if self._mark is None else self._mark

    def stop(self, action_name: str) -> None:
        """Count the time since its start."""
        begun = self._begun.pop(action_name, None)
        if begun is None:
            return
        seconds = time.perf_counter() - begun
        if action_name.endswith(_FETCH):
            self._waited += seconds
        else:
            self._aside += seconds

    def count(self, samples: int) -> None:
        """Count the samples of a batch of this process."""
        self._samples += samples

    def read(self, trainer: pl.Trainer) -> dict[str, float]:
        """What was measured since the last reading, by the slowest process; every process must ask.

        ``perf/images_per_s`` is of all processes together, ``perf/data_wait_share`` the largest share of the time in
        which a process waited for its next batch, ``perf/memory_gb`` the largest peak so far, in 1e9 bytes: allocated
        on a GPU, or resident on a CPU.  ``perf/tflops`` is of one device, ``perf/mfu`` its share of the peak.
        """
        now = time.perf_counter()
        seconds = now - (now if self._mark is None else self._mark) - self._aside
        share = self._waited / seconds if seconds > 0 else 0.0
        device, each = trainer.strategy.root_device, self._samples
        self._mark, self._waited, self._aside, self._samples = now, 0.0, 0.0, 0
        seconds, share, memory = _largest(trainer, seconds, share, peak_memory(device) / 1e9)
        if not each or seconds <= 0:
            return {}
        found = {
            "perf/images_per_s": each * trainer.world_size / seconds,
            "perf/data_wait_share": min(share, 1.0),
            "perf/memory_gb": memory,
        }
        if self.flops is not None:
            found["perf/tflops"] = each * self.flops / seconds / 1e12
            peak = self._peak(device)
            if peak is not None:
                found["perf/mfu"] = found["perf/tflops"] / peak
        return found

    def _peak(self, device: torch.device) -> float | None:
        if self.peak is None and device.type == "cuda":
            return peak_of_device(torch.cuda.get_device_name(device), self.precision)
        return self.peak


def _is_aside(action: str) -> bool:
    return action.startswith("[Callback]") and action.endswith(_ASIDE) and not action.startswith(_OWN)


def _largest(trainer: pl.Trainer, *values: float) -> list[float]:
    """The largest of each value over the processes."""
    if trainer.world_size == 1:
        return list(values)
    told = torch.tensor(values, dtype=torch.float32, device=trainer.strategy.root_device)
    return trainer.strategy.reduce(told, reduce_op="max").tolist()


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that was allocated on a GPU, or was resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
