"""Shards that will be wanted soon are fetched beside the work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)


class FetchAhead:
    """Fetches shards in the order of the newest list, one at a time, in a thread of its own.

    A shard that cannot be fetched is left to whoever reads it, who then says so.

    Args:
        fetch: has a shard, by number, at hand.
    """

    def __init__(self, fetch: Callable[[int], None]) -> None:
        self._fetch = fetch
        self._wanted: list[int] = []
        self._have: set[int] = set()
        self._change = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def want(self, shards: Sequence[int]) -> None:
        """These are wanted, the first ones first; others no longer are."""
        with self._change:
            self._wanted = list(shards)
            self._have &= set(shards)
            self._change.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fetch-ahead", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Begin no other one."""
        with self._change:
            self._closed = True
            self._change.notify()

    def _run(self) -> None:
        while (shard := self._next()) is not None:
            try:
                self._fetch(shard)
            except Exception as error:
                log.debug("did not fetch shard %d ahead: %s", shard, error)
            with self._change:
                self._have.add(shard)

    def _next(self) -> int | None:
        with self._change:
            while not self._closed:
                shard = next((shard for shard in self._wanted if shard not in self._have), None)
                if shard is not None:
                    return shard
                self._change.wait()
        return None
