"""The runs of a sweep on SLURM: one job each, and after a fine-tuning's the one that judges it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.errors import say
from launch.launchers.slurm import Resources, sbatch_script, script_file
from launch.launchers.submit import submit
from launch.sweep.planning import Planned
from launch.sweep.starting import Launch, StageJob, job_of

_SUBMITTED = "job"


def resources_of(config: Any, launch: Launch, after: str = "") -> Resources:
    """What a stage's job asks for.

    Args:
        config: of its run.
        launch: as the user says.
        after: number of the job that must have succeeded.

    Raises:
        ConfigError: an option that is none of ``sbatch``.
    """
    where = config.trainer.accelerator if hasattr(config, "trainer") else config.device
    more = (*launch.sbatch, *([f"dependency=afterok:{after}"] if after else []))
    return Resources(gpus=where != "cpu", more=more)


def script_of(job: StageJob, resources: Resources) -> str:
    """The batch script of a stage; its log lies beside its folder."""
    return sbatch_script(replace(job, out=job.out.absolute()), resources)


def queue(runs: Sequence[Planned], out: Path, launch: Launch) -> dict[str, str]:
    """Why runs are not finished, by name: what is queued, and what was queued before.

    A run whose job was queued is queued again only once that job is gone without having finished it.

    Raises:
        ConfigError: ``sbatch`` refuses a job.
    """
    if shutil.which("sbatch") is None:
        for run in runs:
            _write(run, launch)
        say(f"no sbatch here; submit the scripts in {out} where there is one")
        return dict.fromkeys((run.name for run in runs if not run.finished), "no sbatch here")
    told = {}
    for run in runs:
        if run.finished:
            continue
        told[run.name] = _queued(run, out / "logs" / f"{run.name}.{_SUBMITTED}", launch)
        print(f"{run.name}: {told[run.name]}", flush=True)
    return told


def _queued(run: Planned, note: Path, launch: Launch) -> str:
    before = note.read_text(encoding="utf-8").split() if note.is_file() else []
    waiting = [number for number in before if _is_known(number)]
    if waiting:
        return f"job {' and '.join(waiting)} is in the queue"
    numbers: list[str] = []
    for stage in run.stages:
        if not stage.finished:
            job = replace(job_of(stage, run.name, launch), out=stage.out.absolute())
            numbers.append(submit(job, resources_of(run.config, launch, numbers[-1] if numbers else "")))
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(" ".join(numbers), encoding="utf-8")
    return f"job {' and '.join(numbers)}"


def _is_known(number: str) -> bool:
    """Whether the queue still has a job; without an answer it has not."""
    import subprocess

    if shutil.which("squeue") is None:
        return False
    ended = subprocess.run(["squeue", "--noheader", "--jobs", number], capture_output=True, text=True)
    return ended.returncode == 0 and bool(ended.stdout.strip())


def _write(run: Planned, launch: Launch) -> None:
    from configs.files import write_atomically

    for stage in run.stages:
        if not stage.finished:
            job = job_of(stage, run.name, launch)
            write_atomically(script_file(job), script_of(job, resources_of(run.config, launch)))
