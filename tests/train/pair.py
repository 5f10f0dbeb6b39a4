"""Two processes that train one recipe after the other; their imports are paid once.

Run as a file by ``launch``: ``pair.py JOBS``, a JSON list of ``{kind, recipe, overrides, out, planted}``.  ``planted``
is what happens in a batch of the step after ``step``, on some ``ranks``: ``power`` fails, ``loss`` or ``gradient`` are
not finite, or a signal such as ``SIGTERM`` comes.  ``damaged`` names checkpoints that are cut short before a job, and
``unseen`` those that the second process does not see.  How each job ended stands in ``ended-RANK.txt`` of its folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from configs.load import load_config
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.prior_training import PriorTraining
from tests.waiting import free_port
from train.finetune import finetune
from train.prior import train_prior
from train.runs import Run, open_run

ROOT = Path(__file__).parents[2]


class PowerFailureError(RuntimeError):
    """Both processes end here."""


def plant(module: type[Any], planted: dict[str, Any] | None) -> Any:
    """Let something happen in a step; gives back the step as it was."""
    original = module.training_step
    if planted is None:
        return original
    what, step, ranks = planted["what"], planted["step"], planted.get("ranks", [0, 1])
    done: list[int] = []

    def stumbling(self: Any, batch: Any, batch_idx: int) -> Any:
        here = self.global_step in (step if isinstance(step, list) else [step]) and self.global_rank in ranks
        if here and what == "power":
            raise PowerFailureError
        if here and what.startswith("SIG") and not done:
            done.append(batch_idx)
            os.kill(os.getpid(), signal.Signals[what])
        loss = original(self, batch, batch_idx)
        if here and what == "loss":
            return loss * float("nan")
        if here and what == "spike":
            return loss * 1e4
        if here and what == "gradient":
            return loss + (next(p for p in self.parameters() if p.requires_grad).flatten()[0] * 0).sqrt()
        return loss

    module.training_step = stumbling
    return original


class Talk(TorchDispatchMode):
    """Notes what the processes tell each other."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "c10d" in str(func):
            self.heard.append(str(func))
        return func(*args, **(kwargs or {}))


def watch_attacks() -> None:
    """Fail where an attack's gradients leave anything on the weights or are summed over the processes."""
    original = AdversarialFineTuning.perturb

    def watched(self: Any, *args: Any) -> Any:
        before = [None if p.grad is None else p.grad.clone() for p in self.encoder.parameters()]
        with Talk() as talk:
            found = original(self, *args)
        gathers = any(hasattr(part, "unshard") for part in self.encoder.modules())
        assert not [name for name in talk.heard if "reduce" in name], talk.heard
        assert gathers or not talk.heard, talk.heard
        if not gathers:
            after = [p.grad for p in self.encoder.parameters()]
            for old, new in zip(before, after, strict=True):
                assert (old is None and new is None) or (old is not None and torch.equal(old, new))
            assert all(p.requires_grad for p in self.encoder.parameters())
        assert not found.requires_grad
        return found

    AdversarialFineTuning.perturb = watched  # pyright: ignore[reportAttributeAccessIssue]


def launch(jobs: list[dict[str, Any]], folder: Path) -> None:
    """Have two new processes do the jobs; the folder takes their words."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    port = str(free_port())
    said = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "127.0.0.1"}
    said |= {"MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    said |= {"TORCHELASTIC_RUN_ID": "pair"}
    logs = [folder / f"rank{rank}.txt" for rank in range(2)]
    processes = []
    for rank, log in enumerate(logs):
        told = {**os.environ, **said, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with log.open("w") as out:
            command = [sys.executable, __file__, str(folder / "jobs.json")]
            processes.append(subprocess.Popen(command, env=told, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT))
    try:
        ended = [process.wait(timeout=1500) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert ended == [0, 0], "\n".join(log.read_text()[-4000:] for log in logs)


def disturb(job: dict[str, Any]) -> None:
    """Damage checkpoints, and hide some from the second process, which calls those before them the newest."""
    folder, unseen = Path(job["out"]) / "checkpoints", job.get("unseen", [])
    for name in job.get("damaged", []) if os.environ["RANK"] == "0" else []:
        (folder / name).write_bytes((folder / name).read_bytes()[:1000])
    if os.environ["RANK"] == "1" and unseen:
        seen = sorted(path for path in folder.glob("step=*.ckpt") if path.name not in unseen)
        Run.newest_checkpoint = lambda self: seen[-1] if seen else None  # type: ignore[method-assign]


def opened(config: Any, out: Path) -> Run:
    """The run that the first process opens; the other one waits for it."""
    if os.environ["RANK"] == "0":
        return open_run("pair", config, out)
    while not (out / "config.yaml").is_file():
        time.sleep(0.01)
    return Run(out, config, (out / "done").is_file())


def main(jobs: list[dict[str, Any]]) -> None:
    """Do them all."""
    watch_attacks()
    configs = [load_config(job["kind"], job["recipe"], job["overrides"]) for job in jobs]
    for job, config in zip(jobs, configs, strict=True):
        begin = time.perf_counter()
        train, module = {"finetune": (finetune, AdversarialFineTuning), "prior": (train_prior, PriorTraining)}[
            job["kind"]
        ]
        original, ended, newest = plant(module, job.get("planted")), "done", Run.newest_checkpoint
        disturb(job)
        try:
            train(opened(config, Path(job["out"])))
        except (PowerFailureError, ValueError, SystemExit) as error:
            ended = f"{type(error).__name__}: {error}"
        finally:
            module.training_step, Run.newest_checkpoint = original, newest
        (Path(job["out"]) / f"ended-{os.environ['RANK']}.txt").write_text(ended)
        print(Path(job["out"]).name, f"{time.perf_counter() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
