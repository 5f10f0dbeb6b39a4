"""Progress bars with rate and time left; silent where nobody is looking."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self


class Ticker:
    """A progress bar on standard error while it is a terminal, otherwise nothing.

    Args:
        title: what is being done.
        total: units of work.
        quiet: nothing, in any case.
    """

    def __init__(self, title: str, total: int, *, quiet: bool = False) -> None:
        self.title, self.total = title, total
        self.quiet = quiet or not sys.stderr.isatty()
        self._bar = None

    @classmethod
    def silent(cls) -> Ticker:
        """One that shows nothing."""
        return cls("", 0, quiet=True)

    def __enter__(self) -> Self:
        if not self.quiet:
            from rich.markup import escape
            from rich.progress import (
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeRemainingColumn,
            )

            from data.terminal import terminal

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(show_speed=True),
                TimeRemainingColumn(),
                console=terminal(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(escape(self.title), total=self.total)
        return self

    def advance(self, units: int) -> None:
        """So many more units are done."""
        if self._bar is not None:
            self._bar.advance(self._task, units)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
