"""A training checkpoint, or the newest of a run, becomes a plain file of weights: what its export would have been."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.files import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

AVERAGE = "ema_prior."


def consolidate(source: Path, target: Path) -> Path:
    """The file written: ``encoder.safetensors`` or ``prior.safetensors``, at the checkpoint's step.

    Args:
        source: a ``.ckpt`` of a training, or the folder of a run, whose newest whole checkpoint is taken.
        target: new file, or an existing folder.

    Raises:
        ConfigError: no checkpoint there, or the target exists.
        ValueError: the checkpoint is damaged, unsafe, or of neither kind.
    """
    from modules.checkpoint import is_whole, read_state, tower_state, write_tower

    checkpoint = _newest(source) if source.is_dir() else source
    if checkpoint.is_file() and not is_whole(checkpoint):
        raise ValueError(f"{checkpoint} is damaged; take an earlier one of its folder")
    state, metadata = read_state(checkpoint)
    kind = metadata.get("kind")
    if kind not in ("encoder", "prior"):
        raise ValueError(f"{checkpoint} is no checkpoint of finetune or prior (its kind is {kind!r})")
    target = target / f"{kind}.safetensors" if target.is_dir() else target
    if target.exists():
        raise ConfigError(f"{target} exists; name a new file")
    if kind == "encoder":
        said = {name: value for name, value in metadata.items() if name != "kind"}
        return write_tower(tower_state(state), target, **said)
    return _prior(state, metadata, target, _facts(checkpoint))


def _newest(folder: Path) -> Path:
    from train.runs import Run

    found = Run(folder, None, finished=False).newest_checkpoint()
    if found is None:
        raise ConfigError(f"{folder} holds no whole checkpoint (checkpoints/step=….ckpt); name a file or another run")
    return found


def _facts(checkpoint: Path) -> dict[str, Any]:
    """What the checkpoint's run says of its data and its encoder."""
    from eval.prior_record import has_record, read_record

    run = checkpoint.parent.parent
    return read_record(run).facts if has_record(run) else {}


def _prior(state: dict[str, Tensor], metadata: dict[str, Any], target: Path, facts: dict[str, Any]) -> Path:
    from modules.prior.diffusion import DiffusionPrior
    from modules.prior.storage import save_prior

    prior = DiffusionPrior.from_config(metadata["config"])
    prior.load_state_dict({n.removeprefix(AVERAGE): v for n, v in state.items() if n.startswith(AVERAGE)})
    said = {**facts, "steps": int(metadata.get("step", 0))}
    for finished_only in ("likelihood", "validation", "samples_seen"):
        said.pop(finished_only, None)  # of the run's end, not of this step
    return save_prior(prior.eval(), target, **said)
