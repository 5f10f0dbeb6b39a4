"""The parts of a robustification in its folder: judge, train, judge, export, tell."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from configs.files import write_atomically
from configs.schema import ScorecardConfig
from launch.errors import say
from launch.robustify.child import run_child
from launch.robustify.phases import Phase
from launch.robustify.request import Request
from launch.robustify.tuned import with_took

BASE, RESULT, TRAINING = "scorecard-base", "scorecard", "training"
RECIPE, WEIGHTS, PAGE = "recipe.yaml", "encoder.safetensors", "index.html"


@dataclass(frozen=True)
class Robustification:
    """One job in its folder.

    Attributes:
        request: checked.
        folder: of the job.
        licence: of the result, for its card.
        command: for the record.
        lock: of ``launch.sweep.children.alone``.
    """

    request: Request
    folder: Path
    licence: str
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
        """Add the seconds of a part to the job's environment."""
        from eval.evaluate import finish_run

        finish_run(self.folder, seconds)

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
        from launch.sweep.progress import duration

        place, file = self.folder / TRAINING, self.folder / RECIPE
        again = ", the last of several starts" if (place / "config.yaml").is_file() else ""
        begin = time.perf_counter()
        code = run_child(["finetune", str(file), "--out", str(place)], self.lock)
        if code < 0:
            say(f"the training was ended by {signal.Signals(-code).name}; the same command goes on")
        if code or not (place / "done").is_file():
            raise SystemExit(code if code >= 0 else 0 if -code in (signal.SIGTERM, signal.SIGUSR1) else 1)
        took = f"{duration(time.perf_counter() - begin)} on {_device()}{again}"
        write_atomically(file, with_took(file.read_text(encoding="utf-8"), took))

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

        model = self.request.finetune.model
        wanted = Wanted(model.name, model.pretrained, model.image_size, model.unrelated)
        for left in self.folder.glob(f".{self.request.name}.*"):  # by a start that was killed here
            shutil.rmtree(left, ignore_errors=True)
        results = [self.folder / RESULT]
        run_export(str(self.trained), self.exported, "hub", wanted=wanted, results=results, licence=self.licence)

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
