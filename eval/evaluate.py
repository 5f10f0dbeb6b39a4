"""``robustclip evaluate``: the harness on a checkpoint, and what it leaves in a folder."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from configs.files import ConfigError, write_atomically
from configs.load import to_yaml
from configs.schema import EvaluateConfig, ModelConfig
from eval.examples import write_examples
from eval.harness import Evaluation, digest_of, evaluate
from eval.looks import write_looks
from eval.merge import PREFIX
from eval.outcomes import write_outcomes
from eval.plan import Plan, build_plan
from eval.results import Result, write_csv, write_results
from eval.rows import Subject
from modules.encoders.clip import CLIP, CLIPEncoder, load_clip
from modules.encoders.fingerprint import fingerprint as fingerprint
from modules.encoders.fitting import fit_weights
from modules.encoders.formats import open_weights
from modules.perceptual.head_file import HEAD, load_head
from modules.weights_file import sha256_of

PACKAGES = (
    "torch",
    "open_clip_torch",
    "pytorch-lightning",
    "webdataset",
    "omegaconf",
    "robustclip",
)


def load_model(config: ModelConfig) -> CLIP:
    """The CLIP a recipe names, with its checkpoint in the image tower."""
    return load_subject(config)[0]


def load_subject(config: ModelConfig) -> tuple[CLIP, dict[str, Any]]:
    """The CLIP a recipe names, and what its checkpoint says about itself.

    Under ``file`` stands what was read: its name, SHA-256, format, and what was done to its tensors.

    Raises:
        ValueError: unknown model, or a checkpoint that is missing, foreign, damaged, or was not fine-tuned from it; a
            head of another encoder.
    """
    if config.checkpoint is None:
        return _headed(config, load_clip(config.name, config.pretrained, image_size=config.image_size), {})
    path = Path(config.checkpoint)
    weights = open_weights(path, config.checkpoint_key)  # before the base, which may have to be fetched
    metadata = dict(weights.metadata)
    if metadata.get("kind") == HEAD:
        raise ConfigError(f"{path} is a head, not an encoder; name the encoder of it, and model.head={path}")
    _check_base(config, metadata.get("base", {}))
    size = config.image_size or metadata.get("image_size")  # its positions are for the size it was trained at
    clip = load_clip(config.name, config.pretrained, image_size=size)
    done = fit_weights(clip, weights, unrelated=config.unrelated)
    if weights.choice and os.environ.get("RANK", "0") == "0":
        print(f"{path.name}: {weights.choice}", file=sys.stderr)
    metadata["file"] = {"name": path.name, "sha256": sha256_of(path), **done}
    return _headed(config, clip, metadata)


def _headed(config: ModelConfig, clip: CLIP, metadata: dict[str, Any]) -> tuple[CLIP, dict[str, Any]]:
    """A CLIP whose image tower is the headed one, where the recipe names a head, and what the files say."""
    if config.head is None:
        return clip, metadata
    path = Path(config.head)
    headed, said = load_head(clip.image, path)
    clip.image = cast(CLIPEncoder, headed)  # an encoder like any other; recipes that need the tower refuse heads
    file = {**metadata.get("file", {}), "head": {"name": path.name, "sha256": sha256_of(path)}}
    return clip, {**metadata, "step": said.get("step", 0), "file": file}


def _check_base(config: ModelConfig, base: dict[str, str]) -> None:
    """Refuse a checkpoint that says it was trained from another model."""
    local = str(base.get("name", "")).startswith("local-dir:")  # a folder may have been moved
    if base and not local and base != {"name": config.name, "pretrained": config.pretrained}:
        raise ConfigError(
            f"{config.checkpoint} was trained from {base.get('name')} {base.get('pretrained')}; "
            f"say model.name={base.get('name')} model.pretrained={base.get('pretrained')}"
        )


def checkpoint_name(config: ModelConfig) -> str:
    """What rows call the weights: the file's name or the model's, and the head's."""
    name = Path(config.checkpoint).name if config.checkpoint else config.name
    return name if config.head is None else f"{name} + {Path(config.head).name}"


def evaluate_checkpoint(
    config: EvaluateConfig, out: Path, *, command: str = "", shard: tuple[int, int] = (1, 1)
) -> Evaluation:
    """Judge the model of a recipe and write rows, CSV, outcomes, config, environment and examples to ``out``.

    An interrupted evaluation goes on where it stopped.

    Args:
        config: the recipe.
        out: folder.
        command: for the record.
        shard: (number from 1, count): judge only these images; ``eval.merge`` joins the shards.

    Raises:
        ValueError: as ``load_model``, ``build_plan`` and ``evaluate``.
    """
    begin = time.perf_counter()
    clip, metadata = load_subject(config.model)
    plan = build_plan(config, clip)
    if shard != (1, 1):
        plan.take_shard(*shard, clip.image)
    subject = Subject(
        encoder=config.encoder,
        checkpoint=checkpoint_name(config.model),
        step=int(metadata.get("step", 0)),
        fingerprint=fingerprint(clip.image),
    )
    write_run(out, config, seed=config.seed, command=command, weights=metadata.get("file"))
    found = evaluate(clip.image, plan, subject, state=out / "state")
    write_evaluation(out, found)
    write_judged(out, plan, found, subject, shard)
    finish_run(out, {"evaluate": time.perf_counter() - begin})
    return found


def write_judged(out: Path, plan: Plan, found: Evaluation, subject: Subject, shard: tuple[int, int] = (1, 1)) -> None:
    """Write, per data set, which images were right, with what ``eval.merge`` and a comparison need to know.

    Of a data set of the catalog also what was opened: counts, hashes, class names and templates.
    """
    for task in plan.tasks:
        write_outcomes(
            out / f"{PREFIX}{task.dataset}.json",
            found.outcomes[task.dataset],
            config=plan.hash,
            weights=subject.fingerprint,
            rows=found.rows[task.dataset].to_json(),
            shard="/".join(map(str, shard)),
            start=task.part.start,
            total=len(task.source) if shard != (1, 1) else len(found.outcomes[task.dataset].keys),
            images=digest_of(task.source.keys),
        )
        if task.origin:
            write_atomically(out / f"data-{task.dataset}.json", json.dumps(task.origin, indent=1))


def write_evaluation(out: Path, found: Evaluation, earlier: Sequence[Result] = ()) -> None:
    """Write rows (after ``earlier`` ones), examples and notes to a folder."""
    rows = [*earlier, *found.results]
    write_results(out / "results.jsonl", rows)
    write_csv(out / "results.csv", rows)
    write_looks(out, found.looks)
    if found.examples:
        write_examples(out, found.examples)
    if found.notes:
        write_atomically(out / "notes.json", json.dumps(found.notes))


def write_run(out: Path, config: Any, *, seed: int, command: str, weights: dict[str, Any] | None = None) -> None:
    """Write the resolved config and the environment of a run to its folder, with the file that weights came from."""
    environment = {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": None,
        "seed": seed,
        "command": command,
        **({"weights": weights} if weights else {}),
        "phases": {},
    }
    write_atomically(out / "env.json", json.dumps(environment, indent=1))
    write_atomically(out / "config.yaml", to_yaml(config))


def finish_run(out: Path, phases: dict[str, float]) -> None:
    """Add the seconds of each phase to a run's environment; a run that went on keeps what it took before."""
    file = out / "env.json"
    environment = json.loads(file.read_text(encoding="utf-8"))
    taken = environment["phases"]
    taken |= {name: max(round(seconds, 2), taken.get(name, 0.0)) for name, seconds in phases.items()}
    environment["seconds"] = round(sum(taken.values()), 2)
    write_atomically(file, json.dumps(environment, indent=1))
