"""What was found beside a training about each of its checkpoints, and how that becomes the results of the run.

A folder ``watched/step=000100`` holds one checkpoint's rows, notes and pictures, and ``judged.json`` once all are
there.  However many processes judge, in whatever order, ``assemble`` writes what the callback of the training would.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.files import write_atomically
from eval.evaluate import write_evaluation
from eval.harness import Evaluation
from eval.looks import copy_looks
from eval.results import Result, read_results, write_csv, write_results
from eval.rows import Subject
from eval.watch import alarm_note
from modules.lightning.alarms import Alarm, Probe, alarms

WATCHED = "watched"
_MARK = "judged.json"
_PICTURES = ("examples.safetensors", "examples.json")
_FOLDER = re.compile(r"step=(\d+)")


@dataclass(frozen=True)
class Finding:
    """A checkpoint that was judged.

    Attributes:
        step: of the training.
        stamp: size and time of the file that was judged.
        weights: fingerprint of what was in it.
        probe: of its gradients; None where they were not looked at.
        folder: of its rows, notes and pictures.
    """

    step: int
    stamp: str
    weights: str
    probe: Probe | None
    folder: Path

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What the evaluation of this checkpoint noted."""
        return _listed(self.folder / "notes.json")


def folder_of(out: Path, step: int) -> Path:
    """Where what concerns one checkpoint lies."""
    return out / WATCHED / f"step={step:06d}"


def stamp_of(file: Path) -> str:
    """What tells a file from another one that is written in its place.

    Raises:
        OSError: it is not there.
    """
    about = file.stat()
    return f"{about.st_size}-{about.st_mtime_ns}"


def finding(out: Path, step: int) -> Finding | None:
    """What was found about a step; None where it was not judged to the end."""
    folder = folder_of(out, step)
    try:
        said = json.loads((folder / _MARK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    probe = said["probe"]
    return Finding(step, said["stamp"], said["weights"], Probe(**probe) if probe else None, folder)


def keep(out: Path, found: Evaluation, subject: Subject, probe: Probe | None, stamp: str) -> None:
    """Write what was found about a checkpoint; the mark that it is whole comes last."""
    folder = folder_of(out, subject.step)
    for name in (_MARK, "notes.json", *_PICTURES):  # of weights that stood in this file before
        (folder / name).unlink(missing_ok=True)
    write_evaluation(folder, found)
    mark(out, Finding(subject.step, stamp, subject.fingerprint, probe, folder))


def mark(out: Path, found: Finding) -> None:
    """Say that a checkpoint was judged."""
    said = {"stamp": found.stamp, "weights": found.weights, "probe": found.probe and asdict(found.probe)}
    write_atomically(folder_of(out, found.step) / _MARK, json.dumps(said))


def findings(out: Path) -> list[Finding]:
    """All that was judged, by step."""
    steps = [int(m[1]) for path in (out / WATCHED).glob("step=*") if (m := _FOLDER.fullmatch(path.name))]
    return [found for step in sorted(steps) if (found := finding(out, step)) is not None]


def assemble(out: Path, name: str) -> None:
    """Write rows, notes and pictures of all that was judged to the run's folder.

    Who writes looks again afterwards: so what is there in the end holds everything, whoever wrote at the same time.

    Args:
        out: folder of the run.
        name: of the encoder in the rows.
    """
    found = findings(out)
    while found:
        _write(out, name, found)
        found = again if (again := findings(out)) != found else []


def alarms_of(out: Path, found: list[Finding], step: int) -> list[Alarm]:
    """The alarms of one of the checkpoints, compared with the first one's gradients.

    Args:
        out: folder of the run.
        found: all that was judged, by step.
        step: of the checkpoint.
    """
    file = out / "watch.json"  # the training itself looked at the first one
    probes = {one.step: one.probe for one in found if one.probe is not None}
    first = min(probes, default=step)
    earlier = (
        Probe(**json.loads(file.read_text(encoding="utf-8")))
        if file.is_file()
        else probes.get(first)
        if first < step
        else None
    )
    mine = probes.get(step)
    return alarms(mine, earlier) if mine is not None else []


def _write(out: Path, name: str, found: list[Finding]) -> None:
    steps, file = {one.step for one in found}, out / "results.jsonl"
    there: list[Result] = read_results(file) if file.is_file() else []
    others = [row for row in there if row.encoder != name]
    rows = [row for row in there if row.encoder == name and row.step not in steps]
    last = max([one.step for one in found] + [row.step for row in rows])
    rows += [row for one in found for row in read_results(one.folder / "results.jsonl")]
    rows.sort(key=lambda row: row.step)
    write_results(file, [*others, *rows])
    write_csv(out / "results.csv", [*others, *rows])
    notes = [note for note in _listed(out / "notes.json") if note.get("step", last) not in steps]
    for one in found:
        notes += one.notes if one.step == last else []
        notes += [{**alarm_note(name, one.step, a), "step": one.step} for a in alarms_of(out, found, one.step)]
    notes.sort(key=lambda note: note.get("step", last))  # in their order: what was noted of the last one, its alarms
    if notes or (out / "notes.json").is_file():
        write_atomically(out / "notes.json", json.dumps(notes))
    for one in found:
        copy_looks(one.folder, out)
    if found[-1].step == last and all((found[-1].folder / picture).is_file() for picture in _PICTURES):
        for picture in _PICTURES:
            write_atomically(out / picture, (found[-1].folder / picture).read_bytes())


def _listed(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
