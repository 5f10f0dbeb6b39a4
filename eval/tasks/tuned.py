"""Pictures by which a task sets a threshold: none of those that it judges, and enough of them for the rate."""

from __future__ import annotations

from configs.schema import TaskConfig
from data.framing import Framing
from data.galleries import of_class, open_labelled
from data.source import ImageSource, same_files
from modules.defenses.gates import images_needed


def tuning_pictures(
    config: TaskConfig, judged: ImageSource, framing: Framing, *, rate: float, key: str, unwanted: str | None
) -> ImageSource:
    """The pictures of the tuning split that nothing may be raised for.

    Args:
        config: with ``split`` and ``tune_split``.
        judged: the pictures of ``split``.
        framing: how an image file becomes what the encoder takes.
        rate: of false alarms among them.
        key: of the rate in the recipe, such as ``filtering.false_positive_rate``.
        unwanted: class that is left out; None takes all.

    Raises:
        ValueError: they are those that are judged, there are too few of them, or they cannot be read.
    """
    if config.tune_split == config.split:
        raise ValueError(f"tune_split is {config.split}, which is judged; the threshold needs other pictures")
    tuned = open_labelled(config.shards, config.tune_split, framing)
    if same_files(judged, tuned):
        raise ValueError(f"'{config.shards}' has no folder '{config.tune_split}'; the threshold needs other pictures")
    wanted = tuned if unwanted is None else of_class(tuned, unwanted, others=True)
    if len(wanted) < images_needed(rate):
        raise ValueError(
            f"a false-positive rate of {rate:g} needs {images_needed(rate):,} tuning pictures or more, and "
            f"'{wanted.name}' has {len(wanted):,}; add some, or raise {key}"
        )
    return wanted
