"""Checkpoints that are whole or not there: written beside their place, flushed to the disk, then put in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from configs.family import first_line
from configs.files import ConfigError


class WholeFiles(TorchCheckpointIO):
    """Lightning's checkpoints, but a reader never meets half of one, and a full disk does not end the training.

    Every tensor in the file has a checksum (the zip format's), which ``modules.checkpoint.is_whole`` compares.
    """

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The content of a checkpoint, of which nothing is run.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            return super().load_checkpoint(path, map_location, weights_only=True)
        except Exception as error:  # torch raises many kinds
            reason = first_line(error)[:120]
            raise ConfigError(f"{path} was not loaded: {reason}; nothing was run; remove it") from error

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; where that fails, say so and leave what was there before."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _flush_folder(path.parent)
        except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            reason = reason.strip().splitlines()[0] if reason.strip() else type(error).__name__
            print(f"{path} could not be saved ({reason}); the training goes on, earlier checkpoints stay", flush=True)
        finally:
            temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """The new name reaches the disk too; where folders cannot be flushed, it will in its own time."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
