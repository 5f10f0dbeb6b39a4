"""Which samples a training consumed, epoch by epoch, by the notes of its processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from eval.plain_text import quoted
from train.samples import read_samples, samples_files


def stream(run: Path) -> list[tuple[int, str]]:
    """The samples in the order in which all processes together read them: (step, key).

    The processes share a batch in the order of their ranks, whatever their number was then.
    """
    found = [(int(row["step"]), row["key"]) for file in samples_files(run) for row in read_samples(file)]
    return sorted(found, key=lambda line: line[0])  # stable: within a step by rank


def epoch_faults(run: Path, keys: Sequence[str]) -> tuple[list[str], int]:
    """Samples that an epoch lost or had twice, in words; and the number of whole epochs.

    Args:
        run: folder whose processes noted their samples, one batch per step.
        keys: of the data set.
    """
    keys = [quoted(key) for key in keys]  # as in the notes
    read, size, faults = [key for _, key in stream(run)], len(keys), []
    for epoch in range(-(-len(read) // size)):
        counts, whole = Counter(read[epoch * size : (epoch + 1) * size]), (epoch + 1) * size <= len(read)
        lost = sorted(set(keys) - counts.keys()) if whole else []
        again = sorted(key for key, count in counts.items() if count > 1)
        strange = sorted(counts.keys() - set(keys))
        told = {"lost": lost, "read twice": again, "of no known sample": strange}
        faults += [
            f"epoch {epoch + 1}: {len(names)} {what}, such as {names[0]}" for what, names in told.items() if names
        ]
    return faults, len(read) // size


def share_faults(run: Path) -> list[str]:
    """Steps in which processes did not read equally many samples, or which a process lacks."""
    by_rank = [Counter(int(row["step"]) for row in read_samples(file)) for file in samples_files(run)]
    steps = sorted({step for counts in by_rank for step in counts})
    return [
        f"step {step}: {[counts[step] for counts in by_rank]} samples"
        for step in steps
        if len({counts[step] for counts in by_rank}) > 1
    ]
