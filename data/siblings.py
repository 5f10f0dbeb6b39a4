"""Check that folder names such as ``data`` mean this project's folders, and no file of the user's.

Every package runs this file by its path when it is imported: its own name may be the one that is hidden.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

ORDER = ("data", "modules", "configs", "eval", "train", "launch")  # each imports those before it


def require_siblings(package: str, file: str) -> None:
    """Find every package that one imports next to it; nothing is imported.

    Args:
        package: its name.
        file: its ``__init__.py``.

    Raises:
        ImportError: one is hidden by a file that comes earlier on ``sys.path``, or is missing.
        SystemExit: with code 2 and the same line, where this process is the command line.
    """
    root = Path(file).resolve().parents[1]
    for name in ORDER[: ORDER.index(package)]:
        found = _place_of(name)
        if found is None or found.resolve() not in (root / name, root / name / "__init__.py"):
            line = f"{root / name} is not on sys.path; robustclip needs it"
            if found is not None:
                remedy = "rename it, or take its folder off sys.path (the script's folder, PYTHONPATH)"
                line = f"{found} hides robustclip's own folder '{name}' ({root / name}): {remedy}"
            if package == "launch" and Path(sys.argv[0]).stem in ("-m", "robustclip"):
                print(f"robustclip: {line}", file=sys.stderr)
                raise SystemExit(2)
            raise ImportError(line, name=name, path=str(found))


def _place_of(name: str) -> Path | None:
    """The file, or the folder without ``__init__.py``, that a name stands for."""
    module = sys.modules.get(name)
    spec = find_spec(name) if module is None else getattr(module, "__spec__", None)
    places = [getattr(module, "__file__", None), getattr(spec, "origin", None)]
    places += list(getattr(spec, "submodule_search_locations", None) or ())
    return next((Path(place) for place in places if place), None)
