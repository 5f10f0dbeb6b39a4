"""What a person is told when something goes wrong: a line, and exit code 2 where it was their mistake."""

from __future__ import annotations

import errno
import os
import re
import sys

_SHARED_MEMORY = re.compile(
    r"shared memory|/dev/shm|Bus error|unable to (write to|open|mmap|resize).*torch_|<?/torch_.*No space left"
)
_OPEN_FILES = re.compile(r"Too many open files|received 0 items of ancdata")
_IN_WORKER = "Original Traceback (most recent call last):"


def explain(error: Exception) -> int:
    """Tell a user's mistake in a line; anything else is ours, and says how to see more."""
    text, is_mistake = str(error), isinstance(error, (ValueError, OSError))
    if isinstance(error.__cause__, EOFError):  # typer makes an Abort of it
        say("a process ended in the middle of its work, killed or short of memory or open files; try data.workers=0")
        return 2
    if _IN_WORKER in text:  # torch passes on the whole traceback of a process that reads data
        text = text.strip().splitlines()[-1]
        text = text.partition(": ")[2] or text
    if hasattr(error, "format_message"):  # click's own: wrong options
        say(error.format_message())  # pyright: ignore[reportAttributeAccessIssue]
    elif _OPEN_FILES.search(text):
        say(f"too many open files ({_limit()}): raise it with ulimit -n, or say data.workers=0")
    elif _SHARED_MEMORY.search(text) and not isinstance(error, ValueError):
        say("no shared memory is left for data.workers: give more (docker run --shm-size=8g), or say data.workers=0")
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        say(f"the disk is full: {error.filename or 'a file'} was not written; make room and start again")
    elif isinstance(error, OSError) and error.filename is not None and error.strerror:
        say(f"{os.fsdecode(error.filename)}: {error.strerror}")
    elif is_mistake:
        for line in text.strip().splitlines() or [type(error).__name__]:
            say(line)
    else:
        say(f"unexpected {type(error).__name__}: {text}; run with --debug to see where")
        return 1
    return 2


def _limit() -> str:
    import resource

    return f"the limit is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"


def say(line: str) -> None:
    """Print a line about the program on standard error; what a terminal would act on is spelt out."""
    print(f"robustclip: {spelt_out(line)}", file=sys.stderr)


def spelt_out(text: str) -> str:
    """The text with escapes, bells and marks that turn its direction as ``\\x1b``: names in it may be a stranger's."""
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)
