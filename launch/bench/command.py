"""``robustclip bench``: from names of benchmarks to a table and a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from configs.files import ConfigError
from data.folder_lock import lock_folder
from data.terminal import terminal
from eval.evaluate import finish_run, write_run
from eval.plan import device_of
from eval.report import build_report
from eval.speed import FILE, Record, Speed, speed_table, write_speed
from launch.bench.autoattack import autoattack
from launch.bench.defences import defences
from launch.bench.growth import growth
from launch.bench.loader import loader
from launch.bench.prior import prior
from launch.bench.startup import startup
from launch.bench.train_step import train_step

BENCHMARKS: dict[str, Callable[..., Record]] = {
    "train-step": train_step,
    "autoattack": autoattack,
    "defences": defences,
    "prior": prior,
    "loader": loader,
    "start-up": startup,
    "growth": growth,
}


def run_bench(
    what: Sequence[str],
    *,
    quick: bool,
    json_file: Path | None,
    accelerator: str,
    peer: str | None = None,
    out: Path | None = None,
    command: str = "",
) -> list[Record]:
    """The findings of some benchmarks, or of all; printed, and written where a file or a folder is named.

    Args:
        what: names; none means all.
        quick: small models and few rounds.
        json_file: for the plain values.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        peer: the Python of an environment with dalle2-pytorch, for ``prior``.
        out: folder of a run, with the plain values and a page.
        command: as typed, for the page.

    Raises:
        ConfigError: an unknown benchmark, or a device that is not there.
    """
    unknown = [name for name in what if name not in BENCHMARKS]
    if unknown:
        raise ConfigError(f"unknown benchmark {unknown[0]!r}; choose of: {', '.join(BENCHMARKS)}")
    device = device_of(accelerator)
    console, records, begun = terminal(), [], time.monotonic()
    asked = {"benchmarks": list(what or BENCHMARKS), "quick": quick, "device": str(device)}
    lock = None if out is None else lock_folder(out)
    if out is not None:
        write_run(out, asked, seed=0, command=command)
    for name in what or BENCHMARKS:
        more = {"peer": peer} if name == "prior" else {}
        record = BENCHMARKS[name](quick=quick, device=device, rounds=3 if quick else 7, **more)
        console.print(speed_table(record))
        records.append(record)
    about = {"device": str(device), "threads": torch.get_num_threads(), "torch": torch.__version__, "quick": quick}
    if json_file is not None:
        write_speed(json_file, Speed(records, about))
    if out is not None:
        write_speed(out / FILE, Speed(records, about))
        finish_run(out, {"benchmarks": time.monotonic() - begun})
        console.print(f"page: {build_report([out], out)}", soft_wrap=True, highlight=False, markup=False)
    if lock is not None:
        lock.release()
    return records
