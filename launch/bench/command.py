"""``robustclip bench``: from names of benchmarks to a table and a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from configs.files import ConfigError, write_atomically
from eval.plan import device_of
from launch.bench.autoattack import autoattack
from launch.bench.defences import defences
from launch.bench.growth import growth
from launch.bench.loader import loader
from launch.bench.prior import prior
from launch.bench.record import Record
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
    what: Sequence[str], *, quick: bool, json_file: Path | None, accelerator: str, peer: str | None = None
) -> list[Record]:
    """The findings of some benchmarks, or of all; printed, and written where a file is named.

    Args:
        what: names; none means all.
        quick: small models and few rounds.
        json_file: for the plain values.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        peer: the Python of an environment with dalle2-pytorch, for ``prior``.

    Raises:
        ConfigError: an unknown benchmark, or a device that is not there.
    """
    unknown = [name for name in what if name not in BENCHMARKS]
    if unknown:
        raise ConfigError(f"unknown benchmark {unknown[0]!r}; choose of: {', '.join(BENCHMARKS)}")
    device = device_of(accelerator)
    console, records = Console(), []
    for name in what or BENCHMARKS:
        more = {"peer": peer} if name == "prior" else {}
        record = BENCHMARKS[name](quick=quick, device=device, rounds=3 if quick else 7, **more)
        console.print(table_of(record))
        records.append(record)
    if json_file is not None:
        found = {
            one.name: {
                **one.ratios,
                **one.rates,
                **one.facts,
                "seconds": {k: asdict(v) for k, v in one.timings.items()},
            }
            for one in records
        }
        about = {"device": str(device), "threads": torch.get_num_threads(), "torch": torch.__version__, "quick": quick}
        write_atomically(json_file, json.dumps({**found, "about": about}, indent=1) + "\n")
    return records


def table_of(record: Record) -> Table:
    """The findings as a table, ratios first."""
    table = Table(title=record.name, caption=record.what)
    for column in ("", "", "goal"):
        table.add_column(column, justify="right" if not column else "left")
    for name, value in record.ratios.items():
        table.add_row(name, f"{value:.2f}x", record.goals.get(name, ""))
    for name, value in record.facts.items():
        table.add_row(name, f"{value:.3g}", record.goals.get(name, ""))
    for name, rate in record.rates.items():
        table.add_row(name, f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s")
    for name, timing in record.timings.items():
        spread = f"[dim]{1e3 * timing.low:.1f} to {1e3 * timing.high:.1f}[/dim]"
        table.add_row(f"[dim]{name}[/dim]", f"[dim]{1e3 * timing.median:.1f} ms[/dim]", spread)
    return table
