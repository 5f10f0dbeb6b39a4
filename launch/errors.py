"""What a person is told when something goes wrong: a line, and exit code 2 where it was their mistake."""

from __future__ import annotations

import sys


def explain(error: Exception) -> int:
    """Tell a user's mistake in a line; anything else is ours, and says how to see more."""
    import errno

    if hasattr(error, "format_message"):  # click's own: wrong options
        say(error.format_message())  # pyright: ignore[reportAttributeAccessIssue]
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        say(f"the disk is full: {error.filename or 'a file'} was not written; make room and start again")
    elif isinstance(error, (ValueError, OSError)):
        lines = str(error).strip().splitlines() or [type(error).__name__]
        for line in lines:
            say(line)
    else:
        say(f"unexpected {type(error).__name__}: {error}; run with --debug to see where")
        return 1
    return 2


def say(line: str) -> None:
    """Print a line about the program on standard error; what a terminal would act on is spelt out."""
    print(f"robustclip: {spelt_out(line)}", file=sys.stderr)


def spelt_out(text: str) -> str:
    """The text with escapes, bells and marks that turn its direction as ``\\x1b``: names in it may be a stranger's."""
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)
