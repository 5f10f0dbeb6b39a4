"""``robustclip replay`` on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.files import ConfigError
from launch.launchers.ranks import processes_of

if TYPE_CHECKING:
    from train.replay import Replay

_SHOWN = 12  # rows of the table


def run_replay(folder: Path, overrides: Sequence[str], numbers: Mapping[str, int | None]) -> None:
    """Replay a step of a run, and show what its samples do.

    Args:
        folder: of the run.
        overrides: what is different here, such as where the data lies.
        numbers: of ``train.replay.Wishes``, by name.

    Raises:
        ConfigError: no training run there, no such step, or a number that means nothing.
        ValueError: its model or data cannot be read any more.
    """
    if processes_of() > 1:
        raise ConfigError("replay is the work of one process; start it without torchrun or srun")
    for name, value in numbers.items():
        least = 1 if name in ("step", "processes") else 0
        if value is not None and value < least:
            raise ConfigError(f"--{name} is {value}; it must be at least {least}")
    kind, config = config_of(folder, overrides)
    from train.replay import Wishes, replay
    from train.runs import Run

    _show(replay(Run(folder, config, finished=False), kind, Wishes(**numbers)))  # pyright: ignore[reportArgumentType]


def config_of(folder: Path, overrides: Sequence[str]) -> tuple[str, Any]:
    """The kind of a run and its config.

    Raises:
        ConfigError: no training run there, or one that has nothing to replay.
    """
    from configs.load import load_config, read_recipe

    file = folder / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"{folder} is no run: it has no config.yaml; name the folder of a finetune or prior run")
    said = read_recipe("finetune", str(file))
    kind = "finetune" if "objective" in said else "prior" if "ema" in said else None
    if kind is None:
        raise ConfigError(f"{folder} is a run of another kind; replay is for finetune and prior runs")
    return kind, load_config(kind, str(file), overrides)


def _show(found: Replay) -> None:
    from rich.markup import escape

    from data.terminal import terminal

    console = terminal()
    console.print(_table(found))
    for line in words(found):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _table(found: Replay) -> Any:
    from rich.markup import escape
    from rich.table import Table

    from eval.inert import inert

    attacked = any(sample.inner_start is not None for sample in found.samples)
    inner = ("inner loss, start", "inner loss, end") if attacked else ()
    table = Table(box=None)
    for column in ("sample", *(["process"] if len(found.shares) > 1 else []), *inner, "loss", "gradient", "not finite"):
        table.add_column(column, justify="left" if column in ("sample", "not finite") else "right")
    for sample in found.samples[:_SHOWN]:
        values = (*((sample.inner_start, sample.inner_end) if attacked else ()), sample.loss, sample.gradient_norm)
        process = [str(sample.process)] if len(found.shares) > 1 else []
        numbers = ("–" if value is None else f"{value:.4g}" for value in values)
        table.add_row(escape(inert(sample.key)), *process, *numbers, ", ".join(sample.broken))
    return table


def words(found: Replay) -> list[str]:
    """What was replayed, from what, and who is to blame, a line each."""

    samples, before = found.samples, found.before
    more = [f"… and {len(samples) - _SHOWN} more, in record.json"] if len(samples) > _SHOWN else []
    looked = sum(sample.gradient_norm is not None for sample in samples)
    if looked < len(samples):
        more.append(f"gradients: of {looked} of {len(samples)} samples, those of the largest loss (--gradients)")
    loss = f"step {before.step}: loss {found.loss:.6g}"
    if found.loss_in_training is not None:
        loss += f", {found.loss_in_training:.6g} in the training"
    return [
        *more,
        loss + _noted(found),
        f"weights: {_weights(found)}",
        *_samples(found),
        _blame(found),
        f"written to {found.folder}",
    ]


def _noted(found: Replay) -> str:
    note = found.note
    if note is None:
        return ""
    if "broken" in note:
        return f"; left out then, for a {' and a '.join(map(str, note['broken']))} that was not finite"
    return f"; {note['loss'] / note['median']:.3g} times the median then{', left out' * bool(note['left_out'])}"


def _weights(found: Replay) -> str:
    before = found.before
    said = before.checkpoint.name if before.checkpoint else "the recipe's start"
    if before.anew:
        told = {
            True: "with the losses of metrics.csv, digit for digit",
            False: "with OTHER losses than in metrics.csv: not the weights of the training, bit for bit",
            None: "which metrics.csv has no line to compare with",
        }
        said += f", then {before.anew} steps trained anew, {told[before.repeats]}"
    if len(found.shares) > 1:
        said += f"; {len(found.shares)} processes shared the step, and each one's batch is replayed by itself"
        said += "; steps trained anew are those of one process, whose sums differ in the last bits" * bool(before.anew)
    return said


def _samples(found: Replay) -> list[str]:
    if found.same_samples is None:
        return []
    if found.same_samples:
        return [f"samples: the {len(found.samples)} that were noted"]
    return ["samples: NOT those that were noted; the data, its order or the number of processes is another one now"]


def _blame(found: Replay) -> str:
    from eval.inert import inert

    if found.to_blame:
        return "to blame: " + ", ".join(inert(sample.key) for sample in found.to_blame)
    if found.note is None:
        return "every sample is finite, losses and gradients"
    if "median" in found.note:
        return "to blame: no sample by itself; the loss is high all over"
    return (
        "to blame: no sample by itself; here all is finite, so look for the fault in the machine or trainer.precision"
    )
