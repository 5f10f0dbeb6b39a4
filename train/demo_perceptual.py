"""``robustclip demo perceptual``: what an encoder finds alike, before and after it was made robust, on one page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.files import write_atomically
from configs.load import load_config
from configs.overrides import override
from data.sample import CLASSES, TEMPLATES, digits
from data.terminal import terminal
from eval.evaluate import evaluate_checkpoint, load_model
from eval.pages.perceiving import Perceived, build_perceiving, lead
from eval.perceptual.changes import apart, courses
from eval.perceptual.legible import Reading
from eval.perceptual.looked_into import LookedInto, into_another, out_of_grey
from eval.results import read_results, write_csv, write_results
from modules.encoders.base import ImageEncoder
from modules.perceptual.inversion import Inverting
from modules.zero_shot import zero_shot_head
from train.demo import Phases, one_thread
from train.finetune import finetune
from train.runs import open_run

QUICK: dict[str, list[str]] = {
    "finetune": ["optimizer.max_steps=20", "optimizer.warmup_steps=4", "trainer.checkpoint_every=20"],
    "evaluate": [*(f"tasks.{task}.limit=20" for task in ("reference", "all", "search")), "attacks.apgd.steps=4"],
}
PICTURES = {False: 60, True: 10}  # by quick: of each measure
GREY = Inverting()
CHANGE = Inverting(radius=12.0, steps=50, step_size=4.0, spread=0.2)  # long steps: both encoders go to the ball's edge


def demo_perceptual(*, quick: bool, out: Path | None, command: str) -> Path:
    """The perceptual demo's page.

    CLIP beside R-CLIP_F as a metric: distances under changes and attack, forced choice and retrieval under attack, and
    inversion.  Started again with the same ``out``, it goes on where it stopped.

    Args:
        quick: smaller everything.
        out: folder; ``runs/demo-perceptual/<time>`` where none is said.
        command: for the record.

    Raises:
        ConfigError: ``out`` holds other files.
    """
    console = terminal()
    less = QUICK if quick else {}
    asked = load_config("evaluate", "demo_perceptual", less.get("evaluate", []))
    run = open_run("demo-perceptual", asked, out, command=command)
    phases = Phases(console, {})

    def fine_tuned() -> Path:
        config = load_config("finetune", "fare_tiny_eps4", ["evaluation=null", *less.get("finetune", [])])
        return finetune(open_run("finetune", config, run.folder / "finetune"))

    weights = phases.run("fine-tune CLIP into R-CLIP_F (FARE)", fine_tuned)
    subjects: dict[str, Path | None] = {"CLIP": None, "R-CLIP_F": weights}
    with one_thread(True):
        for name, checkpoint in subjects.items():
            _evaluate(name, checkpoint, run.folder, less.get("evaluate", []), phases, command)
        rows = [row for name in subjects for row in read_results(run.folder / name / "results.jsonl")]
        write_results(run.folder / "results.jsonl", rows)
        write_csv(run.folder / "results.csv", rows)
        page = phases.run(
            "changed pictures, inversions, and the page",
            lambda: _look(run.folder, subjects, rows, quick=quick, command=command),
        )
    run.finish(phases.seconds)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)
    return page


def _evaluate(name: str, checkpoint: Path | None, folder: Path, less: list[str], phases: Phases, command: str) -> None:
    config = _config(checkpoint, *less, override("encoder", name))

    def evaluated() -> Path:
        run = open_run("evaluate", config, folder / name, command=command)
        if not run.finished:
            evaluate_checkpoint(config, run.folder, command=command)
            write_atomically(run.folder / "done", "")
        return run.folder

    phases.run(f"choices and searches of {name}, attacked", evaluated)


def _config(checkpoint: Path | None, *more: str) -> Any:
    of_model = [override("model.checkpoint", str(checkpoint))] if checkpoint else []
    return load_config("evaluate", "demo_perceptual", [*more, *of_model])


def _look(folder: Path, subjects: dict[str, Path | None], rows: list[Any], *, quick: bool, command: str) -> Path:
    """Measure what the harness does not, and write the page and ``perceptual.json``."""
    clips = {name: load_model(_config(checkpoint).model) for name, checkpoint in subjects.items()}
    encoders: dict[str, ImageEncoder] = {name: clip.image.freeze() for name, clip in clips.items()}
    clip = clips["CLIP"]  # one text tower for both
    assert clip.text is not None
    head = zero_shot_head(clip.text, list(CLASSES), list(TEMPLATES), logit_scale=clip.logit_scale)
    held_out = _pictures("test")
    x, y = (part[: PICTURES[quick]] for part in held_out)
    reading = Reading(_pictures("train"), held_out)
    seen = Perceived(
        courses={name: courses(encoder, x) for name, encoder in encoders.items()},
        apart={name: apart(encoder, *held_out) for name, encoder in encoders.items()},
        rows=rows,
        grey=out_of_grey(encoders, head, reading, GREY, seeds=PICTURES[quick] // 10),
        changed=into_another(encoders, head, reading, CHANGE, x, y),
        classes=CLASSES,
        readers=reading.clean(),
        digits=reading.clean_strokes(),
    )
    write_atomically(folder / "perceptual.json", json.dumps(_record(seen), indent=1))
    for sentence in lead(seen):
        print(f"   {sentence}")
    facts = {"command": command, "quick": quick, "pictures": f"{len(x)} held-out digits", "seed": 0}
    return build_perceiving(folder / "report", seen, facts)


def _pictures(split: str) -> tuple[Tensor, Tensor]:
    source = digits(split)
    return torch.from_numpy(source.pixels).permute(0, 3, 1, 2).float() / 255, torch.tensor(source.labels)


def _record(seen: Perceived) -> dict[str, Any]:
    def told(looked: LookedInto) -> dict[str, Any]:
        return {"how": asdict(looked.how), "encoders": {name: asdict(one) for name, one in looked.legible.items()}}

    return {
        "distance": {
            name: {course.change: dict(zip(course.strengths, course.distances, strict=True)) for course in mine}
            for name, mine in seen.courses.items()
        },
        "apart": seen.apart,
        "grey": told(seen.grey),
        "changed": told(seen.changed),
        "readers": seen.readers,
        "digits": seen.digits,
    }
