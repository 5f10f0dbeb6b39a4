"""Where a run lives, and how it goes on when it is started again."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from configs.load import config_hash, plain, same_config, to_yaml
from configs.names import safe_name
from configs.saved import describe_changes
from configs.schema import ModelConfig
from data.folder_lock import FILE as LOCK
from data.folder_lock import FolderInUseError, FolderLock, is_empty, lock_folder
from eval.evaluate import finish_run, write_run
from train.checkpoint_faults import first_sound

_DONE = "done"
_PLACE = (
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("data.workers", "data.cache", "data.cache_dir"),
    *("trainer.peak_tflops", "trainer.trackers", "trainer.tracker_options"),
    *("trainer.keep", "trainer.keep_hours", "trainer.save_async", "data.skip_bad", "data.max_bad"),
)
"""Where a run is computed, what it keeps, and whether a bad sample ends it: all of it may change when a run goes on."""
_LEFT = (
    *(".config.yaml.*", ".env.json.*", ".metrics.csv.*", ".perf.csv.*", ".metrics.jsonl.*", ".trackers.json.*"),
    "checkpoints/.*.tmp",
    "export/.*.tmp",
)
"""What a killed process was writing; its names are those of ``write_atomically`` and ``WholeFiles``."""


@dataclass
class Run:
    """A folder of one run: ``config.yaml``, ``env.json``, ``metrics.csv``, ``checkpoints/``, ``results.jsonl``.

    Attributes:
        folder: its place.
        config: checked.
        finished: it ended before; there is nothing left to do.
        lock: that keeps other commands from writing there, as long as there is this object; None for who only reads.
    """

    folder: Path
    config: Any
    finished: bool
    lock: FolderLock | None = field(default=None, repr=False, compare=False)

    @property
    def checkpoints(self) -> Path:
        """Folder of the training checkpoints."""
        return self.folder / "checkpoints"

    def finish(self, phases: dict[str, float]) -> None:
        """Mark the run as ended and write how long it took."""
        finish_run(self.folder, phases)
        write_atomically(self.folder / _DONE, "")

    def newest_checkpoint(self) -> Path | None:
        """The newest training checkpoint that can be read; damaged ones are named once and passed over.

        Raises:
            ConfigError: the newest one names what could run code.
        """
        return first_sound(sorted(self.checkpoints.glob("step=*.ckpt"), reverse=True))


def open_run(recipe: str, config: Any, out: Path | None, *, command: str = "") -> Run:
    """The run of a recipe: a new one, or an unfinished one with the same config, which goes on.

    Args:
        recipe: its name; the run's folder is ``runs/<recipe>/<time>`` where ``out`` does not say another.
        config: checked.
        out: the run's folder.
        command: for the record.

    Raises:
        ConfigError: ``out`` holds another run or other files.
        ValueError: another process is writing it, or nothing can be written there.
    """
    if out is not None:
        if out.is_file():
            raise ConfigError(f"{out} is a file; name a folder with --out")
        folder, lock = out, lock_folder(out)
        _refuse_foreign(folder, config)
    elif there := unfinished_run(recipe, config):
        print(f"going on with {there}")
        folder, lock = there, lock_folder(there)
    else:
        folder, lock = _fresh(Path("runs") / safe_name(recipe))
    file, finished = folder / "config.yaml", (folder / _DONE).is_file()
    for left in [path for pattern in _LEFT for path in folder.glob(pattern)]:
        left.unlink(missing_ok=True)
    if not file.is_file():
        write_run(folder, config, seed=getattr(config, "seed", 0), command=command)
    elif not finished and not same_config(file, config):
        print(f"going on with {folder} ({describe_changes(file, config)})")
        write_atomically(file, to_yaml(config))
    return Run(folder, config, finished, lock)


def is_of(folder: Path, config: Any) -> bool:
    """Whether a folder holds the run of a config, wherever that was computed."""
    return same_config(folder / "config.yaml", config, but=_PLACE)


def base_of(model: ModelConfig) -> dict[str, str]:
    """Return what an encoder's file says of its base; a folder by its whole path, so that it is found from anywhere."""
    kind, colon, folder = model.name.partition(":")
    name = f"{kind}:{Path(folder).resolve()}" if colon and kind == "local-dir" else model.name
    return {"name": name, "pretrained": model.pretrained}


def another_config(folder: Path, config: Any) -> str:
    """Return the line that refuses a folder whose run has another config, with what differs."""
    changes = describe_changes(folder / "config.yaml", config, but=_PLACE)
    detail = f" ({changes})" if changes else ""
    return f"{folder} holds a run with another config{detail}; name a new folder with --out"


def _fresh(parent: Path) -> tuple[Path, FolderLock]:
    """A new folder, which no other process that starts in the same second has taken."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for name in (stamp, *(f"{stamp}-{i}" for i in range(2, 1000))):
        if (parent / name).exists():
            continue
        with suppress(FolderInUseError):
            lock = lock_folder(parent / name)
            if is_empty(parent / name):
                return parent / name, lock
    raise ConfigError(f"{parent} holds too many runs of this second; name a folder with --out")


def unfinished_run(recipe: str, config: Any) -> Path | None:
    """Return the folder of the newest run of a recipe with the same config that has not finished, if there is one."""
    for file in sorted((Path("runs") / safe_name(recipe)).glob("*/config.yaml"), reverse=True):
        if not (file.parent / _DONE).exists() and is_of(file.parent, config):
            return file.parent
    return None


def _refuse_foreign(folder: Path, config: Any) -> None:
    file = folder / "config.yaml"
    names = {path.name for path in folder.iterdir()}
    begun = {"config.yaml", "env.json", LOCK}
    if {name for name in names if not name.startswith((".config.yaml.", ".env.json."))} <= begun:
        file.unlink(missing_ok=True)  # a run that ended before it did anything is replaced
        return
    if not file.is_file():
        raise ConfigError(f"{folder} holds other files and no run; name a new folder with --out")
    if not is_of(folder, config):
        raise ConfigError(another_config(folder, config))


def identity_of(config: Any, **values: Any) -> dict[str, Any]:
    """Plain values that say what trained weights are, for their file."""
    return {**values, "config_hash": config_hash(plain(config))}
