"""Cases that each need a process of their own: for their peak of memory, or for another library's environment."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from configs.files import ConfigError

_SERVE = "from launch.bench.crew import serve; serve()"


class Member:
    """A process that does one case's work whenever it is asked.

    Args:
        command: of a process that answers lines of JSON: its first line when ready, one line for each line it is sent.
        name: of the case, for errors.
        variables: of its environment, over this process's.
    """

    def __init__(self, command: list[str], /, *, name: str, variables: dict[str, str] | None = None) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(variables or {})},
        )

    @classmethod
    def of(cls, case: Callable[..., object], /, *, name: str, **settings: Any) -> Self:
        """A process of this very interpreter for a case.

        Args:
            case: a function or class of a module; called in the process.
            name: for errors.
            settings: plain values for it.
        """
        return cls(
            [sys.executable, "-c", _SERVE, f"{case.__module__}:{case.__qualname__}", json.dumps(settings)], name=name
        )

    def ready(self) -> dict[str, Any]:
        """What the process says once it may be asked."""
        return self._answer()

    def ask(self, what: str) -> dict[str, Any]:
        """What the case's method of that name answers.

        Raises:
            ConfigError: the process ended instead; with its last words.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(what + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        words = self._log.read().strip().splitlines()
        raise ConfigError(
            f"{self.name}: its process ended with {self._process.returncode}: {words[-1] if words else ''}"
        )

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextmanager
def crew(members: Iterable[Member]) -> Iterator[list[Member]]:
    """The members, all of them ready; ended afterwards."""
    with ExitStack() as stack:
        members = list(members)
        for member in members:
            stack.callback(member.close)
        for member in members:
            member.ready()
        yield members


def serve() -> None:
    """Call a case's methods as the lines of standard input name them; what it prints goes to standard error."""
    import torch

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    where, settings = sys.argv[1], json.loads(sys.argv[2])
    module, _, name = where.partition(":")
    case = getattr(importlib.import_module(module), name)(**settings)

    def tell(values: dict[str, Any]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    tell({})
    for line in sys.stdin:
        found = getattr(case, line.strip())()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        tell(found or {})
