"""Two processes that train one recipe after the other; their imports are paid once.

Run as a file by ``test_strategies``: ``pair.py JOBS``, a JSON list of ``{kind, recipe, overrides, out, stop}``.
``stop`` breaks off in the batch after that step, as a failure of power would.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from configs.load import load_config
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.prior_training import PriorTraining
from train.finetune import finetune
from train.prior import train_prior
from train.runs import Run, open_run


class PowerFailureError(RuntimeError):
    """Both processes end here."""


def stop_at(module: type[Any], step: int | None) -> Any:
    """Break off when a batch of the step after ``step`` comes; gives back what was there."""
    original = module.training_step

    def stumbling(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == step:
            raise PowerFailureError
        return original(self, batch, batch_idx)

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


def opened(config: Any, out: Path) -> Run:
    """The run that the first process opens; the other one waits for it."""
    if os.environ["RANK"] == "0":
        return open_run("pair", config, out)
    while not (out / "config.yaml").is_file():
        time.sleep(0.01)
    return Run(out, config, (out / "done").is_file())


def main(jobs: list[dict[str, Any]]) -> None:
    """Do them all."""
    torch.set_num_threads(1)
    watch_attacks()
    configs = [load_config(job["kind"], job["recipe"], job["overrides"]) for job in jobs]
    for job, config in zip(jobs, configs, strict=True):
        begin = time.perf_counter()
        train, module = {"finetune": (finetune, AdversarialFineTuning), "prior": (train_prior, PriorTraining)}[
            job["kind"]
        ]
        original = stop_at(module, job.get("stop"))
        try:
            train(opened(config, Path(job["out"])))
        except PowerFailureError:
            pass
        finally:
            module.training_step = original
        print(Path(job["out"]).name, f"{time.perf_counter() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
