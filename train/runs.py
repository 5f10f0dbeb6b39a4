"""Where a run lives, and how it goes on when it is started again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from configs.load import config_hash, plain, same_config
from eval.evaluate import finish_run, write_run
from modules.checkpoint import is_whole

_DONE = "done"


@dataclass
class Run:
    """A folder of one run: ``config.yaml``, ``env.json``, ``metrics.csv``, ``checkpoints/``, ``results.jsonl``.

    Attributes:
        folder: its place.
        config: checked.
        finished: it ended before; there is nothing left to do.
    """

    folder: Path
    config: Any
    finished: bool

    @property
    def checkpoints(self) -> Path:
        """Folder of the training checkpoints."""
        return self.folder / "checkpoints"

    def finish(self, phases: dict[str, float]) -> None:
        """Mark the run as ended and write how long it took."""
        finish_run(self.folder, phases)
        write_atomically(self.folder / _DONE, "")

    def newest_checkpoint(self) -> Path | None:
        """The newest training checkpoint that can be read; damaged ones are named once and passed over."""
        for path in sorted(self.checkpoints.glob("step=*.ckpt"), reverse=True):
            if is_whole(path):
                return path
            print(f"{path} is damaged; going back to the one before")
        return None


def open_run(recipe: str, config: Any, out: Path | None, *, command: str = "") -> Run:
    """The run of a recipe: a new one, or an unfinished one with the same config, which goes on.

    Args:
        recipe: its name; the run's folder is ``runs/<recipe>/<time>`` where ``out`` does not say another.
        config: checked.
        out: the run's folder.
        command: for the record.

    Raises:
        ConfigError: ``out`` holds another run or other files.
    """
    if out is None:
        folder = _unfinished(Path("runs") / recipe, config) or _fresh(Path("runs") / recipe)
    else:
        folder = out
        _refuse_foreign(folder, config)
    if not (folder / "config.yaml").is_file():
        write_run(folder, config, seed=getattr(config, "seed", 0), command=command)
    return Run(folder, config, (folder / _DONE).is_file())


def _fresh(parent: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{i}" for i in range(2, 1000))]
    return next(parent / name for name in names if not (parent / name).exists())


def _unfinished(parent: Path, config: Any) -> Path | None:
    for file in sorted(parent.glob("*/config.yaml"), reverse=True):
        if not (file.parent / _DONE).exists() and same_config(file, config):
            print(f"going on with {file.parent}")
            return file.parent
    return None


def _refuse_foreign(folder: Path, config: Any) -> None:
    if folder.is_file():
        raise ConfigError(f"{folder} is a file; name a folder with --out")
    if not folder.is_dir():
        return
    file = folder / "config.yaml"
    if {path.name for path in folder.iterdir()} <= {"config.yaml", "env.json"}:
        file.unlink(missing_ok=True)  # a run that failed before it did anything is replaced
        return
    if not file.is_file():
        raise ConfigError(f"{folder} holds other files and no run; name a new folder with --out")
    if not same_config(file, config):
        raise ConfigError(f"{folder} holds a run with another config; name a new folder with --out")


def identity_of(config: Any, **values: Any) -> dict[str, Any]:
    """Plain values that say what trained weights are, for their file."""
    return {**values, "config_hash": config_hash(plain(config))}
