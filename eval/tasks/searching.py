"""From a recipe's retrieval to its task: queries, a gallery, and what is relevant."""

from __future__ import annotations

from configs.files import ConfigError
from configs.schema import TaskConfig
from data.framing import Framing
from data.galleries import Relevance, class_relevance, open_labelled
from data.layouts.revisited import open_revisited
from data.source import ImageSource, SelectedImages, choose_images
from eval.tasks.poisoning import PoisoningTask
from eval.tasks.retrieval import RetrievalTask


def retrieval_task(name: str, config: TaskConfig, framing: Framing, *, shuffle: bool = False) -> RetrievalTask:
    """The task a recipe describes.

    Args:
        name: of the data set in the results.
        config: what the recipe says, with ``retrieval``.
        framing: how an image file becomes what the encoder takes.
        shuffle: go through the queries in a random order.

    Raises:
        ConfigError: the pictures cannot be read, or nothing can be looked for; one line.
    """
    said = config.retrieval
    assert said is not None
    try:
        queries, gallery, relevance = _opened(config, framing)
        found = relevance.answerable(queries.keys, said.difficulty)
        if not found:
            raise ValueError(
                f"none of the {len(queries)} queries has both something relevant and something else to find in "
                f"'{gallery.name}'; it needs pictures of the queries' classes, and of two classes or more"
            )
        _check_places(said.k, gallery, same=said.gallery is None and said.relevance == "class")
        source = choose_images(SelectedImages(queries, found), config.limit, shuffle=shuffle)
        kind = PoisoningTask if said.attack == "gallery" else RetrievalTask
        left_out = len(queries) - len(found)
        return kind(name, source, gallery, relevance, said, resolution=framing.side, left_out=left_out)
    except ValueError as error:
        raise ConfigError(f"tasks.{name}: {error}") from error


def _opened(config: TaskConfig, framing: Framing) -> tuple[ImageSource, ImageSource, Relevance]:
    said = config.retrieval
    assert said is not None
    if said.relevance == "revisited":
        found = open_revisited(config.shards, framing)
        return found.queries, found.gallery, found.relevance
    queries = open_labelled(config.shards, config.split, framing)
    same = said.gallery is None
    gallery = queries if said.gallery is None else open_labelled(said.gallery, said.gallery_split, framing)
    return queries, gallery, class_relevance(queries, gallery, same=same)


def _check_places(places: list[int], gallery: ImageSource, *, same: bool) -> None:
    others = len(gallery) - same
    if places and max(places) > others:
        raise ValueError(
            f"recall at {max(places)} needs {max(places)} pictures to be found; '{gallery.name}' has {others}: lower "
            "retrieval.k"
        )
