"""Two processes that train one recipe after the other; their imports are paid once.

Run as a file by ``test_strategies``: ``pair.py JOBS``, a JSON list of ``{kind, recipe, overrides, out, stop}``.
``stop`` breaks off in the batch after that step, as a failure of power would.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from configs.load import load_config
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.prior_training import PriorTraining
from train.finetune import finetune
from train.prior import train_prior
from train.runs import open_run


class PowerFailure(RuntimeError):
    """Both processes end here."""


def stop_at(module: type[Any], step: int | None) -> Any:
    """Break off when a batch of the step after ``step`` comes; gives back what was there."""
    original = module.training_step

    def stumbling(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == step:
            raise PowerFailure
        return original(self, batch, batch_idx)

    module.training_step = stumbling
    return original


def watch_attacks() -> None:
    """Fail where an attack's gradients leave anything on the weights or are summed over the processes."""
    original = AdversarialFineTuning.perturb

    def watched(self: Any, *args: Any) -> Any:
        before = [None if p.grad is None else p.grad.clone() for p in self.encoder.parameters()]
        with torch.profiler.profile() as profile:
            found = original(self, *args)
        sums = [event.key for event in profile.key_averages() if "reduce" in event.key.lower()]
        assert not [name for name in sums if "c10d" in name or "gloo" in name], sums
        if not any(hasattr(part, "unshard") for part in self.encoder.modules()):
            after = [p.grad for p in self.encoder.parameters()]
            for old, new in zip(before, after, strict=True):
                assert (old is None and new is None) or (old is not None and torch.equal(old, new))
            assert all(p.requires_grad for p in self.encoder.parameters())
        assert not found.requires_grad
        return found

    AdversarialFineTuning.perturb = watched  # pyright: ignore[reportAttributeAccessIssue]


def main(jobs: list[dict[str, Any]]) -> None:
    """Do them all."""
    torch.set_num_threads(1)
    watch_attacks()
    for job in jobs:
        begin = time.perf_counter()
        train, module = {"finetune": (finetune, AdversarialFineTuning), "prior": (train_prior, PriorTraining)}[
            job["kind"]
        ]
        config = load_config(job["kind"], job["recipe"], job["overrides"])
        original = stop_at(module, job.get("stop"))
        try:
            train(open_run("pair", config, Path(job["out"])))
        except PowerFailure:
            pass
        finally:
            module.training_step = original
        print(Path(job["out"]).name, f"{time.perf_counter() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
