"""Three processes that judge the embedded model together; their imports are paid once.

Run as a file by ``launch``: ``crew.py JOBS``, a JSON list of ``{ranks, settings, out, planted}``.  The first ``ranks``
processes share the job; what they found stands in ``out/found-RANK.json``.  ``planted`` happens to the process ``rank``
when it begins its ``batch``-th batch: ``error`` fails, ``gone`` ends it at once, ``asked`` tells it to end; ``apart``
gives every process a folder of its own for unfinished work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from configs.load import load_config
from eval import harness
from eval.examples import write_examples
from eval.harness import Evaluation, evaluate
from eval.plan import build_plan
from eval.rows import Subject
from eval.team import Team, Unfinished
from modules.encoders.tiny import load_tiny
from tests.waiting import CEILING, free_port

ROOT = Path(__file__).parents[2]
RANKS = 3


def launch(jobs: list[dict[str, Any]], folder: Path, codes: tuple[int, ...] = (0, 0, 0)) -> None:
    """Have three new processes do the jobs."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    port = str(free_port())
    said = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "127.0.0.1"}
    said |= {"MASTER_PORT": port, "WORLD_SIZE": str(RANKS)}
    logs = [folder / f"rank{rank}.txt" for rank in range(RANKS)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w") as out:
            command = [sys.executable, __file__, str(folder / "jobs.json")]
            environment = {**os.environ, **said, "RANK": str(rank)}
            processes.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT))
    try:
        ended = tuple(process.wait(timeout=CEILING) for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert ended == codes, f"{ended}\n" + "\n".join(log.read_text()[-4000:] for log in logs)


def plant(planted: dict[str, Any], team: Team) -> Any:
    """Let something happen; gives back what judges a batch, as it was."""
    original, batches = harness._one_batch, []

    def stumbling(*args: Any) -> Any:
        batches.append(len(batches))
        if team.rank == planted.get("rank") and batches[-1] == planted["batch"]:
            if planted["what"] == "gone":
                os._exit(9)
            if planted["what"] == "asked":
                team.asked = lambda: True
                return original(*args)
            raise ValueError("the third image is a hat")
        return original(*args)

    harness._one_batch = stumbling
    return original


def numbers(found: Evaluation) -> dict[str, Any]:
    """What an evaluation found, without the seconds it took."""
    outcomes = {name: one.to_json() for name, one in found.outcomes.items()}
    for one in outcomes.values():
        for cell in one["cells"].values():
            cell["seconds"] = 0
    rows = [asdict(replace(row, seconds=0.0)) for row in found.results]
    return {"rows": rows, "outcomes": outcomes, "notes": found.notes}


def judge(job: dict[str, Any], team: Team) -> dict[str, Any]:
    """What this process has to say of a job."""
    clip = load_tiny()
    plan = build_plan(load_config("evaluate", "digits", job["settings"]), clip)
    out, planted = Path(job["out"]), job.get("planted") or {}
    apart = planted.get("what") == "apart"
    original = plant({} if apart else planted, team)
    state = out / f"state-{team.rank}" if apart else out / "state"
    try:
        with team.one_end():
            found = evaluate(clip.image, plan, Subject("CLIP", fingerprint="abc"), state=state, team=team)
    except (ValueError, RuntimeError, ConnectionError, Unfinished) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        harness._one_batch = original
    if team.rank == 0:
        write_examples(out, found.examples)
    return {**numbers(found), "examples": len(found.examples)}


def main(jobs: list[dict[str, Any]]) -> None:
    """Do them all."""
    dist.init_process_group("gloo")
    groups: dict[int, Any] = {
        count: dist.new_group(list(range(count)), backend="gloo") for count in range(2, RANKS + 1)
    }
    for job in jobs:
        if dist.get_rank() >= job["ranks"]:
            continue
        begin = time.perf_counter()
        found = judge(job, Team(groups[job["ranks"]]) if job["ranks"] > 1 else Team())
        out = Path(job["out"])
        out.mkdir(parents=True, exist_ok=True)
        (out / f"found-{dist.get_rank()}.json").write_text(json.dumps(found))
        print(out.name, f"{time.perf_counter() - begin:.1f} s", flush=True)
    os._exit(0)  # a group whose member is gone cannot be taken down


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
