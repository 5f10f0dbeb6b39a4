"""Retrieval: does a picture still find what is like it?"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.schema.tasks import RetrievalConfig
from data.batches import ImageBatch
from data.galleries import Relevance
from data.plan import sample_indices
from data.source import ImageSource
from eval.tasks.base import Measures, Question, Ranking, Task
from eval.tasks.embedding import embed_source
from modules.attacks.base import Classifier
from modules.encoders.base import ImageEncoder
from modules.perceptual.ranking import average_precision, recall_at
from modules.perceptual.retrieval import FirstIsAnotherThan, FirstIsRelevant, Gallery

PROTOCOL = "robustclip-default"
SHOWN = 5  # items of a ranking in the report


class RetrievalQuestion(Question):
    """Does something relevant come first; or, where one item is the target, does another one?

    The gallery is embedded once, by the encoder that is asked, and stays as it is.

    Args:
        encoder: that is asked.
        task: whose gallery is searched.
    """

    def __init__(self, encoder: ImageEncoder, task: RetrievalTask, /) -> None:
        self.task = task
        self.gallery = Gallery(embed_source(encoder, task.gallery, f"the gallery of {task.dataset}"))

    def classifier(self, encoder: ImageEncoder, batch: ImageBatch) -> Classifier:
        """Pixels to the best cosine of one side and of the other."""
        relevant, ignored = self._masks(batch)
        if self.task.config.attack != "targeted":
            return FirstIsRelevant(encoder, self.gallery, relevant, ~relevant & ~ignored)
        chosen = torch.zeros_like(relevant)
        chosen[torch.arange(len(batch)), [self.task.chosen(key)[0] for key in batch.key]] = True
        return FirstIsAnotherThan(encoder, self.gallery, ~chosen & ~ignored, chosen)

    @torch.no_grad()
    def measures(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Measures:
        """Average precision and recall; of the attacker's item, whether it is among the first."""
        similarity = encoder.logits(x, self.gallery.similarity).cpu()
        return ranking_measures(self.task, batch, similarity)

    @torch.no_grad()
    def ranking(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Ranking:
        """What each query finds first."""
        similarity = encoder.logits(x, self.gallery.similarity)
        relevant, ignored = self._masks(batch)
        order = similarity.masked_fill(ignored, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :SHOWN]
        targets = {key: self.task.chosen(key)[0] for key in batch.key} if self.task.config.attack == "targeted" else {}
        marks = [
            ["target" if targets.get(key) == i else "relevant" if there[i] else "wrong" for i in items]
            for key, there, items in zip(batch.key, relevant.tolist(), order.tolist(), strict=True)
        ]
        pictures = [torch.stack([self.task.gallery[i].x for i in items]) for items in order.tolist()]
        return Ranking(torch.stack(pictures), marks)

    def _masks(self, batch: ImageBatch) -> tuple[Tensor, Tensor]:
        relevant, ignored = self.task.relevance.masks(batch.key, self.task.config.difficulty)
        return relevant.to(batch.x.device), ignored.to(batch.x.device)


def ranking_measures(task: RetrievalTask, batch: ImageBatch, similarity: Tensor) -> Measures:
    """What a ranking of the gallery is worth to each query of a batch.

    Args:
        task: knows what is relevant.
        batch: queries.
        similarity: [B, N].
    """
    found: Measures = {}
    for difficulty in task.relevance.difficulties or ("",):
        relevant, ignored = task.relevance.masks(batch.key, difficulty)
        values = average_precision(similarity, relevant, ignored).tolist()
        name = f"average_precision_{difficulty}".rstrip("_")
        found[name] = [None if value != value else value for value in values]  # NaN: nothing is relevant
    relevant, ignored = task.relevance.masks(batch.key, task.config.difficulty)
    for k in task.config.k:
        found[f"recall_at_{k}"] = recall_at(similarity, relevant, k, ignored).double().tolist()
    if task.config.attack == "targeted":
        target = torch.zeros_like(relevant)
        target[torch.arange(len(batch)), [task.chosen(key)[0] for key in batch.key]] = True
        for k in task.config.k:
            found[f"target_at_{k}"] = recall_at(similarity, target, k, ignored).double().tolist()
    return found


class RetrievalTask(Task):
    """Queries and a gallery.

    Args:
        dataset: name in the results.
        source: queries that have something relevant and something wrong in the gallery.
        gallery: what is searched.
        relevance: of the gallery's items to the queries.
        config: how it is attacked and told.
        resolution: side in pixels of the pictures.
        left_out: queries that have nothing relevant, or nothing else.
    """

    name = "retrieval"
    protocol = PROTOCOL
    persistent = True

    def __init__(
        self,
        dataset: str,
        source: ImageSource,
        gallery: ImageSource,
        relevance: Relevance,
        config: RetrievalConfig,
        *,
        resolution: int = 0,
        left_out: int = 0,
    ) -> None:
        self.dataset, self.source, self.tuning = dataset, source, None
        self.gallery, self.relevance, self.config = gallery, relevance, config
        self.resolution, self.left_out, self.part = resolution, left_out, range(len(source))
        self._chosen: dict[tuple[str, int], list[int]] = {}

    @property
    def classes(self) -> list[str]:
        """What may come first."""
        targeted = self.config.attack == "targeted"
        return ["another item", "the target"] if targeted else ["something relevant", "something wrong"]

    @property
    def qualifiers(self) -> list[str]:
        """A protocol of ours."""
        told = [f"protocol {PROTOCOL}, {self.config.attack}"]
        return [*told, f"{self.left_out:,} queries without anything relevant left out"] if self.left_out else told

    @property
    def origin(self) -> dict[str, Any]:
        """What was opened."""
        return {
            "protocol": PROTOCOL,
            "queries": len(self.source),
            "gallery": len(self.gallery),
            "relevance": self.config.relevance,
            "difficulty": self.config.difficulty if self.relevance.difficulties else "",
            "attack": self.config.attack,
        }

    def question(self, encoder: ImageEncoder) -> Question:
        """What comes first?"""
        return RetrievalQuestion(encoder, self)

    def prepared(self, batch: ImageBatch) -> ImageBatch:
        """Right is class 0, whatever a query shows."""
        return replace(super().prepared(batch), y=torch.zeros_like(batch.y))

    def hidden(self, batch: ImageBatch) -> list[bool]:
        """All pictures, where the recipe says so."""
        return [self.config.blur] * len(batch)

    def chosen(self, key: str, count: int = 1) -> list[int]:
        """Places of gallery items that have nothing to do with a query, chosen by the seed and the query's name."""
        if (key, count) not in self._chosen:
            wrong = np.ones(len(self.gallery), dtype=bool)
            for places in self.relevance.of(key, self.config.difficulty):
                wrong[places] = False
            digest = hashlib.blake2b(f"{self.config.seed}/{key}".encode(), digest_size=7).digest()
            drawn = sample_indices(int.from_bytes(digest, "big"), 0, count, int(wrong.sum()))
            self._chosen[key, count] = np.flatnonzero(wrong)[drawn].tolist()
        return self._chosen[key, count]
