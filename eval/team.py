"""Processes that judge a checkpoint together: what one of them finds, all are told, and all of them end as one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=12)
"""How long a process waits for another one's batch."""


class Unfinished(BaseException):
    """The processes were asked to end; what is judged is on the disk, and the same evaluation goes on from there."""


class Team:
    """All processes of a training, or one that is alone.

    They talk by gloo, as plain values: no GPU spins while it waits, and no process runs what another one sends.

    Args:
        group: of torch.distributed, by gloo; None for a process that is alone.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        asked: whether this process has been told to end; all of them then do, between two pieces of work.
    """

    def __init__(self, group: dist.ProcessGroup | None = None, /) -> None:
        self.group = group
        self.rank, self.size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        self.asked: Callable[[], bool] = lambda: False
        self._over = False

    @classmethod
    def of_all(cls) -> Team:
        """The processes that torch.distributed knows; every one of them must ask."""
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return cls()
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(group, dist.ProcessGroup), "a group of all holds this process"
        return cls(group)

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank; every one must ask.

        Args:
            value: as JSON knows it.

        Raises:
            ValueError, RuntimeError: another process failed meanwhile; with its line.
            ConnectionError: another process is gone.
        """
        if self.group is None:
            return [value]
        return [said["value"] for said in self._told({"value": value})]

    @contextmanager
    def one_end(self) -> Iterator[None]:
        """What ends one process inside ends all of them, with one line; nobody leaves before all are done.

        Raises:
            ValueError, RuntimeError, ConnectionError: as ``gather``.
        """
        try:
            yield
            self.gather(None)
        except Exception as error:
            if self.group is not None and not self._over:
                self._tell(error)
            raise

    def _tell(self, error: Exception) -> None:
        """Tell what went wrong here; comes back where it was the first of what went wrong."""
        mistake = isinstance(error, (ValueError, OSError))
        text = str(error) if mistake else f"{type(error).__name__}: {error}"
        try:
            self._told({"error": text, "mistake": mistake, "rank": self.rank})
        except (ValueError, RuntimeError, ConnectionError) as told:
            if str(told) != text:
                raise told from error

    def _told(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            heard = self._exchange(message)
        except RuntimeError as error:
            self._over = True
            line = "another process of this job is gone; start the same command again to go on"
            raise ConnectionError(line) from error
        failed = next((said for said in heard if "error" in said), None)
        if failed is not None:
            self._over = True
            raise (ValueError if failed["mistake"] else RuntimeError)(failed["error"])
        return heard

    def _exchange(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        mine = torch.frombuffer(bytearray(json.dumps(message).encode()), dtype=torch.uint8)
        lengths = [int(n) for n in self._all(torch.tensor([len(mine)]))]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(mine)] = mine
        texts = self._all(padded)
        return [json.loads(bytes(text[:n].tolist())) for text, n in zip(texts, lengths, strict=True)]

    def _all(self, mine: Tensor) -> list[Tensor]:
        """Every process's tensor; while it waits, this one still listens to signals."""
        found = [torch.empty_like(mine) for _ in range(self.size)]
        work = dist.all_gather(found, mine, group=self.group, async_op=True)
        assert work is not None
        pause = 0.001
        while not work.is_completed():
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        work.wait()
        return found
