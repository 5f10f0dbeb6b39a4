"""``~`` in paths that people type."""

from __future__ import annotations

from pathlib import Path

_LOCAL = "local-dir:"  # before a folder that is a model by itself


def at_home(path: str | Path) -> Path:
    """Return a path with a leading ``~`` or ``~user`` expanded; a file that is itself called ``~x`` stays as it is.

    Raises:
        ValueError: the home folder is not known.
    """
    if not str(path).startswith("~"):
        return Path(path)
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        if Path(path).exists():
            return Path(path)
        user = Path(path).parts[0][1:]
        reason = f"there is no user '{user}' here" if user else "HOME is not set, and this user has no home folder"
        raise ValueError(f"cannot expand '{path}': {reason}; write the full path") from error


def text_at_home(place: str) -> str:
    """Return the name of a model or a place with a leading ``~`` expanded, also behind ``local-dir:``.

    Raises:
        ValueError: the home folder is not known.
    """
    start = _LOCAL if place.startswith(_LOCAL) else ""
    path = place.removeprefix(start)
    return start + str(at_home(path)) if path.startswith("~") else place
