"""The section of a report about traps: what a scorecard claims about them, next to the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.traps.record import Findings


def trap_sections(found: Sequence[tuple[str, Findings]]) -> list[dict[str, Any]]:
    """What the template needs to know of evaluated traps.

    Args:
        found: a run's label, and its findings.
    """
    return [
        {
            "label": label,
            "about": [(name, str(value)) for name, value in findings.about.items()],
            "bars": findings.bars,
            "tables": [
                (title, rows)
                for title, rows in (
                    ("Broken: the robustness is only apparent", findings.of(broken=True)),
                    ("Honest: as robust as it looks", findings.of(broken=False)),
                )
                if rows
            ],
        }
        for label, findings in found
    ]
