"""A progress bar for loops that turn out to be slow, and none where nobody looks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_PATIENCE = 2.0  # seconds before a bar appears


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """The items, one by one; a bar on a terminal's stderr once the loop has taken two seconds."""
    from data.terminal import terminal

    console = terminal(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(escape(description), total=total)
    started = time.monotonic()
    shown = False
    try:
        for item in items:
            yield item
            bar.advance(task)
            if not shown and time.monotonic() - started > _PATIENCE:
                bar.start()
                shown = True
    finally:
        if shown:
            bar.stop()
