"""The training that a self-test disturbs: the embedded one, or a recipe of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.files import ConfigError
from configs.load import load_config
from launch.forecast.plan import kind_of

_TINY = "fare_tiny_eps4"
_ANY = {
    "optimizer.warmup_steps": "1",
    "trainer.checkpoint_every": "2",
    "trainer.log_every": "1",
    "trainer.keep": "3",
}
_EMBEDDED = {
    "data.batch_size": "16",
    "data.workers": "1",  # a process that might be left behind
    "attack.steps": "2",
    "trainer.accelerator": "cpu",
}


@dataclass(frozen=True)
class Disturbed:
    """A training as words of the command line, without its processes and its folder.

    Attributes:
        kind: the command.
        words: recipe and key=value.
    """

    kind: str
    words: tuple[str, ...]

    def on(self, processes: int, out: Path) -> list[str]:
        """The words that train it on so many processes of this machine into a folder."""
        return [self.kind, *self.words, f"trainer.devices={processes}", "--out", str(out)]


def disturbed(recipe: str | None, overrides: Sequence[str], *, steps: int, processes: int, strategy: str) -> Disturbed:
    """The training of a self-test: short, with many checkpoints, and with notes of what it read.

    What the user says about length and checkpoints stays as it is said.

    Args:
        recipe: of the user; None takes the embedded data and model.
        overrides: key=value of the user.
        steps: optimizer steps, where the user does not say.
        processes: that will share it.
        strategy: how they do.

    Raises:
        ConfigError: every fault of the recipe and the overrides, or the processes cannot share a batch.
    """
    kind = "finetune" if recipe is None else kind_of(recipe)
    evaluation = {"evaluation": "null"} if kind == "finetune" else {}
    own = {**_ANY, **evaluation, **(_EMBEDDED if recipe is None else {}), "optimizer.max_steps": str(steps)}
    own["trainer.strategy"] = strategy
    said = [word.partition("=")[0] for word in overrides]
    fixed = [key for key in said if key in ("trainer.devices", "trainer.num_nodes", "trainer.record_samples")]
    if fixed:
        raise ConfigError(f"{fixed[0]} is set by the self-test; say --processes")
    words = [f"{key}={value}" for key, value in own.items() if not _is_said(key, said)]
    found = Disturbed(kind, (recipe or _TINY, *words, *overrides, "trainer.record_samples=true"))
    batch = load_config(kind, found.words[0], [*found.words[1:], f"trainer.devices={processes}"]).data.batch_size
    if processes < 1 or batch % processes:
        raise ConfigError(f"--processes {processes} cannot share data.batch_size={batch} equally; choose a multiple")
    return found


def _is_said(key: str, said: Sequence[str]) -> bool:
    """Whether the user says this key, its node, or the strategy."""
    return any(word == key or key.startswith(f"{word}.") for word in said)
