"""``robustclip traps``: from names of traps to a table, ``traps.json`` and a page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from data.folder_lock import lock_folder
from data.terminal import terminal
from eval.evaluate import finish_run, write_run
from eval.progress import Ticker
from eval.report import build_report
from eval.tables import percent
from eval.traps.catalog import choose
from eval.traps.record import Findings, Row, write_findings
from eval.traps.run import BUDGET, SETTINGS, evaluate_traps


def list_traps(names: Sequence[str]) -> None:
    """Print the traps with their kinds.

    Raises:
        ConfigError: an unknown name.
    """
    for trap in choose(names):
        print(f"{'broken' if trap.broken else 'honest'}  {trap.kind:<22} {trap.name}: {trap.text}")


def run_traps(names: Sequence[str], out: Path | None = None, *, processes: int = 1, command: str = "") -> bool:
    """Evaluate traps, print a line for each and the bars; write a run folder where one is named.

    Args:
        names: of traps or their kinds; none means all.
        out: folder of a run, with ``traps.json`` and a page.
        processes: that share the work.
        command: as typed, for the page.

    Returns:
        Whether all bars are cleared.

    Raises:
        ConfigError: an unknown name.
    """
    traps, begin = choose(names), time.monotonic()
    about = {"budget": BUDGET, "settings": " ".join(SETTINGS), "torch": str(torch.__version__)}
    lock = None if out is None else lock_folder(out)
    if out is not None:
        write_run(out, {"traps": [trap.name for trap in traps], **about}, seed=0, command=command)
    rows: list[Row] = []
    with Ticker("traps", len(traps)) as ticker:
        for row in evaluate_traps([trap.name for trap in traps], processes=processes):
            rows.append(row)
            _say(_line(row))
            ticker.advance(1)
    findings = Findings(rows, about)
    for text, cleared in findings.bars:
        _say(f"{'cleared' if cleared else 'FAILED'}: {text}")
    if out is not None:
        write_findings(out, findings)
        finish_run(out, {"traps": time.monotonic() - begin})
        _say(f"page: {build_report([out], out)}")
    if lock is not None:
        lock.release()
    return findings.passed


def _line(row: Row) -> str:
    numbers = f"clean {percent(row.clean)}, claimed {percent(row.claimed)}, truth {percent(row.truth)}"
    return f"{row.verdict:<9} {row.name} ({row.threat}): {numbers}{'; red: ' if row.red else ''}{', '.join(row.red)}"


def _say(text: str) -> None:
    terminal().print(text, soft_wrap=True, highlight=False, markup=False)
