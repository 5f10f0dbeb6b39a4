"""From the words of ``robustclip selftest`` to a verdict."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from configs.files import ConfigError
from eval.progress import Ticker
from launch.selftest.check import Check, show, write_checks
from launch.selftest.distributed import count_of, distributed
from launch.selftest.planted import FAULTS
from launch.selftest.recipe import disturbed
from launch.selftest.resume import Resume
from launch.selftest.stage import Stage
from launch.selftest.start import Starter

_KILLS, _FEW = 50, 6


def run_resume(
    words: Sequence[str], out: Path | None, *, quick: bool, processes: int, kills: int | None, seed: int, **how: str
) -> bool:
    """Whether a run that is killed again and again ends as one that nobody disturbed; printed and written.

    Args:
        words: a recipe, where there is one, and key=value.
        out: folder for the runs and ``selftest.json``.
        quick: few kills, and processes that start at once.
        processes: of the run.
        kills: how many.
        seed: of the moments.
        how: ``strategy``, and ``plant``, a fault that must be found.

    Raises:
        ConfigError: what cannot be run so.
    """
    count = kills if kills is not None else _FEW if quick else _KILLS
    if count < 1 or processes < 1:
        raise ConfigError("--kills and --processes must be at least 1")
    _refuse_unknown(how["plant"])
    recipe, overrides = _split(words)
    training = disturbed(
        recipe, overrides, steps=min(max(3 * count, 8), 100), processes=processes, strategy=how["strategy"]
    )
    folder, begin = _new_folder(out, "resume"), time.monotonic()
    with Starter(forked=quick) as starter, Ticker("selftest resume", count + 2) as ticker:
        test = Resume(training, starter, folder, processes, how["plant"])
        checks = test.checks(count, seed, ticker)
    about = {"training": list(training.words), "processes": processes, "kills": count, "seed": seed, "quick": quick}
    return _verdict("resume", checks, folder, {**about, "planted": how["plant"] or None}, begin)


def run_distributed(out: Path | None, *, quick: bool, plant: str) -> bool:
    """Whether several processes survive together what happens to one of them; printed and written.

    Args:
        out: folder for the runs and ``selftest.json``.
        quick: without what takes long, and processes that start at once.
        plant: a fault that must be found.

    Raises:
        ConfigError: an unknown fault, or a folder with other files.
    """
    _refuse_unknown(plant)
    folder, begin = _new_folder(out, "distributed"), time.monotonic()
    with Starter(forked=quick) as starter, Ticker("selftest distributed", count_of(quick)) as ticker:
        checks = distributed(Stage(starter, folder, quick, plant), ticker)
    return _verdict("distributed", checks, folder, {"quick": quick, "planted": plant or None}, begin)


def _refuse_unknown(plant: str) -> None:
    if plant and plant not in FAULTS:
        raise ConfigError(f"unknown fault {plant!r}; choose one of: {', '.join(FAULTS)}")


def _verdict(name: str, checks: Sequence[Check], folder: Path, about: dict[str, Any], begin: float) -> bool:
    passed = show(f"selftest {name}", checks)
    seconds = round(time.monotonic() - begin, 1)
    versions = {"python": platform.python_version()} | {p: version(p) for p in ("torch", "pytorch-lightning")}
    file = write_checks(folder, checks, {"test": name, "seconds": seconds, **about, "versions": versions})
    print(f"{'all hold' if passed else 'NOT all hold'}, {seconds:.0f} s: {file}")
    return passed


def _split(words: Sequence[str]) -> tuple[str | None, list[str]]:
    if words and "=" not in words[0]:
        return words[0], list(words[1:])
    return None, list(words)


def _new_folder(out: Path | None, name: str) -> Path:
    folder = out or Path("runs") / "selftest" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already; name a new folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"selftest {name}: {folder}", file=sys.stderr)
    return folder
