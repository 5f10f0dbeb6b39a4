"""Recipe to task: which question is asked of which samples."""

from __future__ import annotations

from configs.schema import TaskConfig
from eval.framing import framing_of
from eval.tasks.base import Task
from eval.tasks.choice import choice_task
from eval.tasks.classification import classification_task
from eval.tasks.filtering import filtering_task
from eval.tasks.neighbours import neighbours_task
from eval.tasks.searching import retrieval_task
from modules.encoders.clip import CLIP


def build_task(name: str, config: TaskConfig, clip: CLIP, *, shuffle: bool = False) -> Task:
    """The task a recipe describes.

    Args:
        name: of the data set in the results.
        config: what the recipe says.
        clip: whose text tower writes heads.
        shuffle: go through the samples in a random order, in which every beginning is a fair choice.

    Raises:
        ConfigError: the task cannot be built from what the recipe says.
        ValueError: the data cannot be read.
    """
    task = _asked(name, config, clip, shuffle=shuffle)
    task.transfer = config.transfer_from is not None
    return task


def _asked(name: str, config: TaskConfig, clip: CLIP, *, shuffle: bool) -> Task:
    framing = framing_of(clip.image)
    if config.choice is not None:
        return choice_task(name, config, framing, shuffle=shuffle)
    if config.retrieval is not None:
        return retrieval_task(name, config, framing, shuffle=shuffle)
    if config.neighbours is not None:
        return neighbours_task(name, config, framing, shuffle=shuffle)
    if config.filtering is not None:
        return filtering_task(name, config, framing, shuffle=shuffle)
    return classification_task(name, config, clip, shuffle=shuffle)
