"""Folders of priors' trainings, as their reports find them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eval.prior_record import write_record

FACTS: dict[str, Any] = {
    "encoder": "c0ffee",
    "base": {"name": "ViT-L-14", "pretrained": "openai"},
    "checkpoint": None,
    "dim": 768,
    "data": {
        "shards": "laion",
        "kind": "embeddings",
        "of": None,
        "pairs": 1_000_000,
        "held_out": 4096,
        "validation": None,
        "computed": ["token states"],
        "tokens": True,
    },
    "parameters": 249_416_720,
    "prediction": "x0",
    "loss": "l2",
    "timesteps": 1000,
    "init": None,
    "steps": 40,
    "samples_seen": 40_960,
    "likelihood": {"mean": -0.25, "std": 0.07, "n": 1024},
}
LAST = {
    "val/loss": 0.12,
    "val/similarity_image": 0.81,
    "val/similarity_text": 0.33,
    "val/baseline": 0.29,
    "val/difference_from_baseline": 0.04,
    "val/similarity_unrelated": 0.05,
    "val/denoising/0000-0499": 0.08,
    "val/denoising/0500-0999": 0.11,
    "val/loss_live": 0.118,
}


def prior_run(folder: Path, *, validated: bool = True, **changed: Any) -> Path:
    """The folder of a prior's run of 40 steps, validated at 0, 20 and 40."""
    folder.mkdir(parents=True)
    write_record(folder, {**FACTS, **changed})
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "env.json").write_text(json.dumps({"versions": {"torch": "2"}, "seed": 0, "command": "robustclip prior"}))
    names = list(LAST) if validated else []
    lines = [",".join(["step", "train/loss", "lr", *names])]
    for step in range(0, 41, 5):
        seen = [""] * len(names)
        if step % 20 == 0:
            seen = [repr(LAST[name] * (2 - step / 40)) for name in names]
        trained = ["", ""] if step == 0 else [repr(1 / step), "0.1"]
        lines.append(",".join([str(step), *trained, *seen]))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder
