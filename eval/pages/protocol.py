"""The section of a report about published protocols: ours beside what was published, and what must be read with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.inert import inert
from eval.pages.runs import Run
from eval.protocols.view import remarks, subject_of, tables_of
from eval.remedies import remedy_of


def protocol_sections(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the template needs to know of every run of a protocol."""
    records = [inert(run.protocol) for run in runs if run.protocol is not None]
    return [
        {
            "title": record.title,
            "label": record.label,
            "subject": subject_of(record),
            "source": record.source,
            "changed": record.changed,
            "tables": tables_of(record),
            "remarks": remarks(record),
            "doubts": [
                (one, [(severity, text, remedy_of(name)) for name, severity, text in one.doubts])
                for one in record.doubts
                if one.doubts
            ],
        }
        for record in records
    ]
