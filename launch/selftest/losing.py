"""A process, or a whole node, is gone: the others notice, and the run goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from launch.launchers.job import Job
from launch.launchers.torchrun import torchrun_command
from launch.selftest.check import Check, judged, stopwatch
from launch.selftest.compare import same_bits
from launch.selftest.resume import LEAVE
from launch.selftest.stage import Stage, ended, wait_for_step
from launch.selftest.start import Life, Rank, free_port, fresh

_STEP = 5
_PROGRAM = (sys.executable, "-m", "launch.cli")


def lost_process(stage: Stage) -> list[Check]:
    """SIGKILL to one of two: the other leaves in time with a code that is not 0, and the same command goes on."""
    with stopwatch() as taken:
        life = stage.start("lost", 2)
        faults = wait_for_step(life, stage.out / "lost", _STEP)
        life.send(signal.SIGKILL, [1])
        left = life.wait(LEAVE)
        if left is None:
            faults.append(f"the other one still ran after {LEAVE:.0f} s")
        elif not faults and life.codes()[0] == 0:
            faults.append("the other one ended as if nothing were wrong")
        life.send(signal.SIGKILL)
        faults += _left_behind(stage)
        faults = faults or [*stage.run("lost", 2, part="-again"), *_unlike(stage, "lost")]
    code = life.codes()[0]
    told = (
        f"the other one left after {left or 0.0:.1f} s with code {code}; no orphans; then the same bits as undisturbed"
    )
    return [judged("SIGKILL to one of two processes", faults, told, taken[0])]


def two_nodes(stage: Stage) -> list[Check]:
    """Two agents of torchrun stand for two nodes; the process of one is killed, both start anew, all ends the same."""
    job = Job("finetune", stage.training.words, stage.out / "nodes", 2, 1, _PROGRAM)
    line = torchrun_command(job, rendezvous=f"127.0.0.1:{free_port()}", restarts=1)
    logs = [stage.out / "logs" / f"nodes-agent{number}.txt" for number in range(2)]
    with stopwatch() as taken:
        agents: list[Rank] = [fresh(line, log) for log in logs]
        life = stage.starter.adopt(Life(agents, logs))
        faults = wait_for_step(life, job.out, _STEP)
        killed = children(agents[1].pid)
        for number in killed:
            os.kill(number, signal.SIGKILL)
        faults = faults or ([] if killed else ["an agent had no process"]) or ended(life)
        faults += _left_behind(stage)
        faults = faults or _unlike(stage, "nodes")
    told = "detected, started anew on both, ended with the same bits as undisturbed; no orphans"
    return [judged("two nodes, the process of one is killed", faults, told, taken[0])]


def lost_starter(stage: Stage) -> list[Check]:
    """The first process, which Lightning starts the second one from, is killed while they meet: neither stays."""
    words = stage.training.on(2, stage.out / "met")
    log = stage.out / "logs" / "met.txt"
    with stopwatch() as taken:
        first = fresh([*_PROGRAM, *words], log)
        life, faults = stage.starter.adopt(Life([first], [log])), []
        while life.running() and not children(first.pid):
            time.sleep(0.01)
        if not life.running():
            faults.append(f"it ended by itself: {life.codes()}, {life.last_words()}")
        life.send(signal.SIGKILL)
        faults += _left_behind(stage)
    return [judged("the first of two is killed while they meet", faults, "no process stays", taken[0])]


def children(parent: int) -> list[int]:
    """The processes that a process started."""
    try:
        return [
            int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8").split()
        ]
    except OSError:
        return []


def _left_behind(stage: Stage) -> list[str]:
    return [f"left behind: {words} (process {number})" for number, words in stage.starter.orphans()[0].items()]


def _unlike(stage: Stage, name: str) -> list[str]:
    checks = same_bits(stage.out / "two", stage.out / name)
    return [f"{check.name}: {check.compared}" for check in checks if not check.passed]
