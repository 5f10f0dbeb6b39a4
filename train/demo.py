"""``robustclip demo``: the whole main job on embedded data, from a pretrained CLIP to a page that says what holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from configs.files import write_atomically
from configs.load import load_config
from configs.overrides import override
from data.terminal import terminal
from eval.evaluate import evaluate_checkpoint
from eval.report import build_report
from eval.results import read_results, write_csv, write_results
from eval.tables import terminal_table
from train.embed import embed
from train.finetune import finetune
from train.prior import train_prior
from train.runs import open_run

QUICK: dict[str, list[str]] = {
    "finetune": [
        "optimizer.max_steps=40",
        "trainer.checkpoint_every=40",
        "evaluation.tasks.digits-small.limit=16",
        "evaluation.watch=4",
    ],
    "prior": ["optimizer.max_steps=60"],
    "evaluate": [
        "tasks.digits.limit=20",
        "attacks.apgd_ce.steps=3",
        "attacks.apgd_t.steps=4",
        "attacks.apgd_t.targets=1",
        "score_draws=2",
    ],
}
"""What ``--quick`` makes smaller; its numbers say that everything runs, and little else."""


@dataclass
class Phases:
    """Runs the parts of the demo in turn and remembers how long each took."""

    console: Console
    seconds: dict[str, float]

    def run(self, name: str, part: Callable[[], Path]) -> Path:
        """What a part hands back; its name is told before, its seconds after."""
        begin = time.perf_counter()
        self.console.print(f"[bold]{len(self.seconds) + 1}.[/bold] {name}")
        result = part()
        self.seconds[name] = time.perf_counter() - begin
        self.console.print(f"   [dim]{self.seconds[name]:.0f} s  {result}[/dim]", highlight=False)
        return result


def demo(*, quick: bool, out: Path | None, command: str) -> Path:
    """The demo's page.

    CLIP and R-CLIP_F, each with a prior of its own, bare and behind every defence, attacked through every view.
    Started again with the same ``out``, it goes on where it stopped.

    Args:
        quick: smaller everything.
        out: folder; ``runs/demo/<time>`` where none is said.
        command: for the record.

    Raises:
        ConfigError: ``out`` holds other files.
    """
    console = terminal()
    less = QUICK if quick else {}
    evaluation = load_config("evaluate", "digits", [*less.get("evaluate", []), "prior=of-each-encoder"])
    run = open_run("demo", evaluation, out, command=command)
    phases = Phases(console, {})

    def fine_tuned() -> Path:
        config = load_config("finetune", "fare_tiny_eps4", less.get("finetune", []))
        return finetune(open_run("finetune", config, run.folder / "finetune"))

    encoder = phases.run("fine-tune CLIP into R-CLIP_F (FARE)", fine_tuned)
    robust = load_config("finetune", "fare_tiny_eps4").encoder
    subjects: dict[str, Path | None] = {"CLIP": None, robust: encoder}
    for name, checkpoint in subjects.items():
        _judge(name, checkpoint, run.folder, less, phases, command)
    parts = [*(run.folder / name / "evaluation" for name in subjects), run.folder / "finetune"]
    _join(run.folder, parts)
    run.finish(phases.seconds)
    page = build_report([run.folder, *parts], run.folder / "report")
    console.print(terminal_table(read_results(run.folder / "results.jsonl")))
    console.print(f"report: {page}", soft_wrap=True, highlight=False)
    return page


def _judge(
    name: str,
    checkpoint: Path | None,
    folder: Path,
    less: dict[str, list[str]],
    phases: Phases,
    command: str,
) -> None:
    """Embed, train a prior on the embeddings, and evaluate, for one encoder."""
    place = folder / name
    of_model = [override("model.checkpoint", str(checkpoint))] if checkpoint else []
    shards = place / "embeddings"
    if not shards.is_dir():
        config = load_config("embed", "tiny", of_model)
        phases.run(f"embed the training images with {name}", lambda: embed(config, shards))
    prior_config = load_config("prior", "prior_tiny", [override("data.shards", str(shards)), *less.get("prior", [])])
    prior = phases.run(
        f"train a prior on {name}'s embeddings",
        lambda: train_prior(open_run("prior", prior_config, place / "prior")),
    )
    settings = [*less.get("evaluate", []), *of_model, override("prior", str(prior)), override("encoder", name)]
    evaluation = load_config("evaluate", "digits", settings)

    def evaluated() -> Path:
        run = open_run("evaluate", evaluation, place / "evaluation", command=command)
        if not run.finished:
            with one_thread(bool(less)):
                evaluate_checkpoint(evaluation, run.folder, command=command)
            write_atomically(run.folder / "done", "")
        return run.folder

    phases.run(f"evaluate {name} behind {len(evaluation.defenses)} defences", evaluated)


@contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """One thread inside: a few dozen tiny images take longer on two, which mostly wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if wanted else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _join(folder: Path, parts: list[Path]) -> Path:
    """The rows of the parts in one file: each encoder's evaluation, and the checkpoints of the training."""
    rows = [row for part in parts for row in read_results(part / "results.jsonl")]
    write_results(folder / "results.jsonl", rows)
    write_csv(folder / "results.csv", rows)
    return folder / "results.jsonl"
