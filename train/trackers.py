"""Tells a training's metrics to TensorBoard, Weights & Biases or MLflow, besides the files of its run."""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from configs.files import write_atomically
from configs.load import plain
from eval.results import WORST, Result, read_results

FILE = "trackers.json"
_EVALUATED = "evaluated"  # steps whose rows were told; several processes may judge them in any order


class Trackers(Callback):
    """Tells every line of the metrics, and the rows of every evaluated checkpoint, to trackers.

    Only the first process talks, through Lightning's own loggers.  A run that goes on goes on with the same run of a
    tracker: what that is called there is kept in ``trackers.json``.  A tracker that fails is told no more, in a line,
    and the training goes on; the files of the run have everything.

    Args:
        folder: of the run.
        config: of the run; ``config.trainer.trackers`` names the trackers.
    """

    def __init__(self, folder: Path, config: Any, /) -> None:
        self.folder, self.config = folder, config
        self.loggers: dict[str, Logger] = {}
        self._state: dict[str, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the trackers."""
        if not trainer.is_global_zero:
            return
        file, step = self.folder / FILE, trainer.global_step
        self._state = json.loads(file.read_text(encoding="utf-8")) if file.is_file() and step else {}
        told = self._state.get(_EVALUATED, [])
        self._state[_EVALUATED] = [number for number in told if number <= step]  # later rows are made anew
        for name in self.config.trainer.trackers:
            self._try(name, lambda name=name: self._open(name, step))
        self._remember()

    def _open(self, name: str, step: int) -> None:
        options = dict(self.config.trainer.tracker_options.get(name) or {})
        known = self._state.get(name)
        logger = _OPEN[name](self.folder, known, step, options)
        self.loggers[name] = logger
        if isinstance(logger, TensorBoardLogger):
            if not step:
                logger.experiment.add_text("config", f"```\n{json.dumps(plain(self.config), indent=1)}\n```")
            return
        self._state[name] = str(logger.version)
        if known is None:
            logger.log_hyperparams(plain(self.config))

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the values of a step."""
        for name, logger in list(self.loggers.items()):
            self._try(name, lambda logger=logger: logger.log_metrics(dict(values), step))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell of the checkpoint that was just evaluated."""
        if trainer.global_step % self.config.trainer.checkpoint_every == 0:
            self._tell_results()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of the last checkpoint."""
        self._tell_results()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of a checkpoint that was evaluated late, and close."""
        self._tell_results()
        self._close("success")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close; a run that was told to leave has not failed."""
        self._close("success" if isinstance(exception, SystemExit) and not exception.code else "failed")

    def _tell_results(self) -> None:
        file = self.folder / "results.jsonl"
        if not self.loggers or not file.is_file():
            return
        fresh = [row for row in read_results(file) if row.step not in self._state[_EVALUATED]]
        for step in sorted({row.step for row in fresh}):
            self.tell(step, named([row for row in fresh if row.step == step]))
            self._state[_EVALUATED].append(step)
            self._remember()

    def _remember(self) -> None:
        write_atomically(self.folder / FILE, json.dumps(self._state, indent=1))

    def _close(self, status: str) -> None:
        for name, logger in list(self.loggers.items()):
            self._try(name, lambda logger=logger: _finish(logger, status))
        self.loggers = {}

    def _try(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever a library or a network comes up with
            self.loggers.pop(name, None)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            print(f"{name} is told no more, and the training goes on: {reason}", flush=True)


def named(rows: list[Result]) -> dict[str, float]:
    """The values of one step's rows by their metric keys; a key of other radii than the evaluation's own says so."""
    own = {row.eps for row in rows if row.attack == WORST}
    times = Counter(row.key for row in rows)
    return {
        row.key if times[row.key] == 1 or row.eps in own else f"{row.key}/eps_{255 * row.eps:g}": row.value
        for row in rows
    }


def _tensorboard(folder: Path, known: str | None, step: int, options: dict[str, Any]) -> Logger:
    purge: dict[str, Any] = {"purge_step": step + 1} if step else {}  # what the run is about to do again is forgotten
    return TensorBoardLogger(folder, name="events", version="", **purge)


def _wandb(folder: Path, known: str | None, step: int, options: dict[str, Any]) -> Logger:
    import wandb  # pyright: ignore[reportMissingImports]

    name = f"{folder.resolve().parent.name}/{folder.resolve().name}"
    settings = wandb.Settings(console="off", quiet=True)  # the terminal stays ours
    return WandbLogger(name=name, save_dir=folder, id=known or secrets.token_hex(4), settings=settings, **options)


def _mlflow(folder: Path, known: str | None, step: int, options: dict[str, Any]) -> Logger:
    place, uri = folder.resolve(), options.get("uri") or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        os.environ.setdefault(
            "MLFLOW_ALLOW_FILE_STORE", "true"
        )  # it needs no server, and newer versions want to be told
    return MLFlowLogger(
        experiment_name=options.get("experiment", "robustclip"),
        run_name=f"{place.parent.name}/{place.name}",
        tracking_uri=uri,
        save_dir=str(place / "mlruns"),
        run_id=known,
    )


_OPEN: dict[str, Callable[[Path, str | None, int, dict[str, Any]], Logger]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _finish(logger: Logger, status: str) -> None:
    logger.finalize(status)
    if isinstance(logger, WandbLogger):
        logger.experiment.finish(exit_code=0 if status == "success" else 1)
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.close()
