"""``robustclip robustify``: forecast, train, judge, export, and one page; each part once, however often it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.files import write_atomically
from configs.schema import ScorecardConfig
from launch.robustify.cost import agreed, cost_in_words, forecast_of, show_forecast
from launch.robustify.phases import Phase, run_phases
from launch.robustify.request import Request, read_request
from launch.robustify.tuned import recipe_text

BASE, RESULT, TRAINING = "scorecard-base", "scorecard", "training"
RECIPE, WEIGHTS, PAGE = "recipe.yaml", "encoder.safetensors", "index.html"


@dataclass(frozen=True)
class Wishes:
    """What was said beside model and settings.

    Attributes:
        out: folder.
        quick: a trial.
        budget: of the scorecards.
        licence: of the result, for its card.
        yes: do not ask.
        dry_run: show recipe and forecast, start nothing.
    """

    out: Path | None = None
    quick: bool = False
    budget: str | None = None
    licence: str = ""
    yes: bool = False
    dry_run: bool = False


def run_robustify(model: str, words: Sequence[str], wishes: Wishes, *, command: str) -> None:
    """Make a robust model of a base, or go on with it.

    Args:
        model: name of the base.
        words: the tag of its weights, and key=value.
        wishes: what else was said.
        command: for the record.

    Raises:
        ConfigError: every fault of what was said, one a line.
        ValueError: model or data cannot be had.
        SystemExit: the training was told to stop, or failed, and has said so.
    """
    request = read_request(model, words, quick=wishes.quick, budget=wishes.budget)
    if wishes.dry_run:
        found = forecast_of(request)
        print(recipe_text(request.tuned, cost=cost_in_words(found)))
        show_forecast(found)
        return
    from launch.sweep.children import alone
    from train.runs import open_run

    run = open_run(f"robustify-{request.name}", request.config, wishes.out, command=command)
    with alone(run.folder) as lock:
        if not (run.folder / TRAINING / "config.yaml").is_file() and not _begin(request, run.folder, wishes):
            return
        job = Robustification(request, run.folder, wishes, command, lock)
        run_phases(job.phases(), lambda seconds: job.note(seconds))
        if not run.finished:
            run.finish({})
        job.tell()


def _begin(request: Request, folder: Path, wishes: Wishes) -> bool:
    """Write the recipe and say what it costs; False where the user does not want it."""
    found = forecast_of(request)
    text = recipe_text(request.tuned, cost=cost_in_words(found))
    print("\n".join(line for line in text.splitlines() if line.startswith("#")))
    show_forecast(found)
    if not agreed(yes=wishes.yes):
        return False
    write_atomically(folder / RECIPE, text)
    return True


@dataclass(frozen=True)
class Robustification:
    """One job in its folder.

    Attributes:
        request: checked.
        folder: of the job.
        wishes: what was said beside it.
        command: for the record.
        lock: of ``launch.sweep.children.alone``.
    """

    request: Request
    folder: Path
    wishes: Wishes
    command: str
    lock: int

    @property
    def trained(self) -> Path:
        """The tower that the training leaves."""
        return self.folder / TRAINING / "export" / WEIGHTS

    @property
    def exported(self) -> Path:
        """Folder that open_clip loads."""
        return self.folder / self.request.name

    def phases(self) -> list[Phase]:
        """The parts of the job; the base comes first, so that data that cannot be judged by is found at once."""
        base, result = self.folder / BASE, self.folder / RESULT
        return [
            Phase(f"judge {self.request.config.base.encoder}", "base", base / "done", self._judge(base, None)),
            Phase("fine-tune it", "training", self.folder / TRAINING / "done", self.train),
            Phase("keep the weights", "weights", self.folder / WEIGHTS, self.keep),
            Phase(f"judge {self.request.config.encoder}", "result", result / "done", self._judge(result, self.trained)),
            Phase("export it for open_clip, with its card", "export", self.exported, self.export),
            Phase("write the page", "page", self.folder / PAGE, self.page),
        ]

    def note(self, seconds: dict[str, float]) -> None:
        """Add the seconds of a part to the job's environment, and the training's to the recipe's comment."""
        from eval.evaluate import finish_run
        from launch.sweep.progress import duration

        finish_run(self.folder, seconds)
        if "training" in seconds:
            file = self.folder / RECIPE
            told = f"# took: {duration(seconds['training'])} on {_device()}"
            lines = [line for line in file.read_text().splitlines() if not line.startswith("# took: ")]
            last = max(i for i, line in enumerate(lines) if line.startswith("#"))
            write_atomically(file, "\n".join([*lines[: last + 1], told, *lines[last + 1 :]]) + "\n")

    def _judge(self, place: Path, checkpoint: Path | None) -> Callable[[], None]:
        def judge() -> None:
            from eval.score_page import build_score_page
            from eval.scorecard import judge_model
            from train.runs import open_run

            config = self.scorecard(checkpoint)
            run = open_run(RESULT, config, place, command=self.command)
            card = judge_model(config, run.folder, budget=self.request.config.budget, command=self.command)
            build_score_page(card, run.folder)
            run.finish({})

        return judge

    def scorecard(self, checkpoint: Path | None) -> ScorecardConfig:
        """The scorecard of the base, or of what was trained."""
        base = self.request.config.base
        if checkpoint is None:
            return base
        model = replace(base.model, checkpoint=str(checkpoint.resolve()))
        return replace(base, model=model, encoder=self.request.config.encoder)

    def train(self) -> None:
        """Fine-tune in processes of their own, as many as there are devices.

        Raises:
            SystemExit: they were told to stop, or failed.
        """
        from launch.launchers.job import own_program
        from launch.sweep.children import became

        words = ["finetune", str(self.folder / RECIPE), "--out", str(self.folder / TRAINING)]
        child = subprocess.Popen(became([*own_program(), *words]), pass_fds=(self.lock,))
        try:
            code = child.wait()
        except KeyboardInterrupt:
            child.wait()
            raise
        if code or not (self.folder / TRAINING / "done").is_file():
            raise SystemExit(code if code > 0 else 1 if code else 0)

    def keep(self) -> None:
        """Put the tower where it is found."""
        place = self.folder / f".{WEIGHTS}.new"
        place.unlink(missing_ok=True)
        try:
            os.link(self.trained, place)
        except OSError:
            shutil.copyfile(self.trained, place)
        place.rename(self.folder / WEIGHTS)

    def export(self) -> None:
        """Write open_clip's folder with the card of the result."""
        from launch.exchange.export import run_export
        from launch.exchange.subject import Wanted

        model = self.request.config.finetune.model
        wanted = Wanted(model.name, model.pretrained, model.image_size, model.unrelated)
        results, licence = [self.folder / RESULT], self.wishes.licence
        run_export(str(self.trained), self.exported, "hub", wanted=wanted, results=results, licence=licence)

    def page(self) -> None:
        """Write the page."""
        from launch.robustify.page import build_page

        build_page(self.folder, self.request, self.command)

    def tell(self) -> None:
        """Print what came out and where it lies."""
        from launch.robustify.page import told

        for line in told(self.folder, self.request):
            print(line)


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU cores: {torch.get_num_threads()}"
