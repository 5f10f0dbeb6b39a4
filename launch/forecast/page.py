"""A forecast as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from data.terminal import terminal
from launch.forecast.hours import caution
from launch.forecast.memory import LEFT_OUT
from launch.forecast.plan import Forecast

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def show(found: Forecast, proven: Sequence[str]) -> None:
    """Print a forecast and what its rehearsal proved."""
    notes = [*([caution(found.config.trainer.precision)] if found.by_peak else []), LEFT_OUT, found.work.left_out]
    lines = [f"note: {note}" for note in notes if note] + [f"rehearsed: {line}" for line in proven]
    terminal().print(Group(numbers(found), memory_table(found), *(Text(line) for line in lines)))


def numbers(found: Forecast) -> Table:
    """Work, time, data and disk."""
    config, work = found.config, found.work
    table = Table(title=f"{found.kind} {found.name} on {found.nodes} x {found.devices}", show_header=False)
    accumulated = f", {config.trainer.accumulate} such batches a step" if config.trainer.accumulate > 1 else ""
    read, saved = size(found.samples * found.sample_bytes), size(work.checkpoint_bytes)
    rows = [
        ("trained", f"{work.parameters:,} parameters"),
        ("batch", f"{config.data.batch_size:,} {work.unit}, {found.share:,} on each GPU{accumulated}"),
        ("training", f"{config.optimizer.max_steps:,} steps, {found.samples:,} {work.unit}"),
        *((part.name, f"{part.times:g} x {_flops(part.flops)}") for part in work.parts),
        ("together", f"{_flops(work.flops)} for each of the {work.unit}, {found.samples * work.flops:.2e} FLOP in all"),
        *(("time", f"{_time(hours)} {words}") for words, hours in found.hours),
        ("data read", f"{read}, {size(found.sample_bytes)} a sample ({_known(found)})"),
        ("checkpoints", f"{found.saves:,} of {saved}, one every {config.trainer.checkpoint_every:,} steps"),
        ("disk", f"{size(found.disk_bytes)} for {found.kept:,} at once and the finished weights"),
    ]
    for label, value in rows:
        table.add_row(label, value)
    return table


def memory_table(found: Forecast) -> Table:
    """What every GPU holds, by strategy."""
    table = Table(title="memory of each GPU, by strategy", padding=(0, 0, 0, 1))
    for heading in ("", "weights", "gradients", "AdamW", "frozen", "activations", "together"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for way, memory in found.memory.items():
        parts = (memory.weights, memory.gradients, memory.states, memory.frozen, memory.activations, memory.total)
        chosen = way == found.way
        table.add_row(f"{'>' if chosen else ' '} {way}", *map(size, parts), style="bold" if chosen else "")
    return table


def size(count: float) -> str:
    """Bytes in the unit that suits them, thousands at a time."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {_UNITS[unit]}"


def _known(found: Forecast) -> str:
    return found.work.assumed if found.sample_bytes == found.work.sample_bytes else "as you say"


def _flops(count: float) -> str:
    return f"{count / 1e9:,.4g} GFLOP" if count < 1e13 else f"{count / 1e12:,.4g} TFLOP"


def _time(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.2g} minutes"
    return f"{hours:,.3g} hours" if hours < 72 else f"{hours / 24:,.3g} days"
