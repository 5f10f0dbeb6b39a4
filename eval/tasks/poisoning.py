"""Gallery poisoning: do changed gallery pictures get among what a query finds first?"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from configs.schema.tasks import RetrievalConfig
from data.batches import ImageBatch
from data.galleries import Relevance
from data.source import ImageSource
from eval.tasks.base import Measures, Question, Ranking
from eval.tasks.embedding import embed_batch, embed_source
from eval.tasks.retrieval import SHOWN, RetrievalTask
from modules.encoders.base import ImageEncoder
from modules.perceptual.poisoning import Poisoning, entered
from modules.perceptual.retrieval import Gallery
from modules.perturb.joint import JointThreat
from modules.perturb.threat import Threat


class PoisoningQuestion(Question):
    """Do the first places of a query stay clean?

    Args:
        encoder: that is asked; gallery and queries are embedded by it and stay as they are.
        task: whose gallery is poisoned.
    """

    def __init__(self, encoder: ImageEncoder, task: PoisoningTask, /) -> None:
        self.encoder, self.task = encoder, task
        self.gallery = Gallery(embed_source(encoder, task.gallery, f"the gallery of {task.dataset}"))
        self._seen: tuple[tuple[str, ...], Tensor] | None = None

    def classifier(self, encoder: ImageEncoder, batch: ImageBatch) -> Poisoning:
        """Pixels of the poisoned pictures to the bar and what exceeds it."""
        return self._poisoning(encoder, batch, smooth=False)

    def ascended(self, encoder: ImageEncoder, batch: ImageBatch) -> Poisoning | None:
        """The mean cosine: of the best picture alone the others would not learn."""
        return self._poisoning(encoder, batch, smooth=True) if self.task.images > 1 else None

    @torch.no_grad()
    def measures(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Measures:
        """Whether one got in, the share of the first places that they took, and of the gallery that is still ahead."""
        cosines = self.classifier(encoder, batch).cosines(x)
        clean = self._clean(batch)
        inside = entered(cosines, self._best(clean))
        others = torch.isfinite(clean).sum(dim=1)
        ahead = (clean >= cosines.amax(dim=1, keepdim=True)).sum(dim=1) / others
        return {
            "entered": (inside > 0).double().tolist(),
            "displaced": (inside / self.task.config.first).tolist(),
            "ahead": ahead.tolist(),
        }

    @torch.no_grad()
    def ranking(self, encoder: ImageEncoder, batch: ImageBatch, x: Tensor) -> Ranking:
        """What each query finds first, with the poisoned pictures in the gallery."""
        similarity, cosines = self._clean(batch), self.classifier(encoder, batch).cosines(x)
        relevant = self.task.relevance.masks(batch.key, self.task.config.difficulty)[0]
        pixels = x.unflatten(1, (self.task.images, 3))
        marks, pictures = [], []
        for row, key in enumerate(batch.key):
            places = self.task.chosen(key, self.task.images)
            similarity[row, places] = cosines[row]
            order = similarity[row].argsort(descending=True, stable=True)[:SHOWN].tolist()
            own = {place: pixels[row, number].cpu() for number, place in enumerate(places)}
            pictures.append(torch.stack([own[i] if i in own else self.task.gallery[i].x for i in order]))
            marks.append(["poisoned" if i in own else "relevant" if relevant[row, i] else "wrong" for i in order])
        return Ranking(torch.stack(pictures), marks)

    def _poisoning(self, encoder: ImageEncoder, batch: ImageBatch, *, smooth: bool) -> Poisoning:
        best = self._best(self._clean(batch))
        return Poisoning(encoder, self._queries(batch), best, images=self.task.images, smooth=smooth)

    def _best(self, clean: Tensor) -> Tensor:
        return clean.topk(self.task.config.first, dim=1).values

    def _queries(self, batch: ImageBatch) -> Tensor:
        """[B, D] of the queries, which nobody changes."""
        if self._seen is None or self._seen[0] != batch.key:
            assert batch.beside is not None, "the query lies beside its poisoned pictures"
            self._seen = batch.key, embed_batch(self.encoder, replace(batch, x=batch.beside[:, 0]))
        return self._seen[1]

    def _clean(self, batch: ImageBatch) -> Tensor:
        """[B, N] cosines of the gallery to the queries, -inf for what is poisoned or does not count."""
        similarity = self.gallery.similarity(self._queries(batch))
        ignored = self.task.relevance.masks(batch.key, self.task.config.difficulty)[1]
        for row, key in enumerate(batch.key):
            ignored[row, self.task.chosen(key, self.task.images)] = True
        return similarity.masked_fill(ignored.to(similarity.device), -torch.inf)


class PoisoningTask(RetrievalTask):
    """Queries, and for each of them gallery pictures that are changed to be found by it.

    Args:
        dataset, source, gallery, relevance, config, resolution, left_out: as for ``RetrievalTask``.

    Raises:
        ValueError: the gallery is too small.
    """

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
        super().__init__(dataset, source, gallery, relevance, config, resolution=resolution, left_out=left_out)
        self.images = config.poisoned
        for key in source.keys:
            relevant, ignored = relevance.of(key, config.difficulty)
            wrong, others = len(gallery) - len(relevant) - len(ignored), len(gallery) - len(ignored) - config.poisoned
            if wrong < config.poisoned or others < config.first:
                raise ValueError(
                    f"the gallery '{gallery.name}' of {len(gallery)} pictures is too small to poison {config.poisoned} "
                    f"for the first {config.first} places of {key}; lower retrieval.poisoned or retrieval.first"
                )

    @property
    def classes(self) -> list[str]:
        """What becomes of the first places."""
        return ["clean", "poisoned"]

    def question(self, encoder: ImageEncoder) -> Question:
        """Do the first places stay clean?"""
        return PoisoningQuestion(encoder, self)

    def threat(self, threat: Threat) -> Threat:
        """``eps`` holds for each poisoned picture."""
        return threat if self.images == 1 else JointThreat(threat.norm, threat.eps, images=self.images)

    def prepared(self, batch: ImageBatch) -> ImageBatch:
        """The pixels are those of the poisoned pictures; the query lies beside them."""
        poisoned = [torch.cat([self.gallery[i].x for i in self.chosen(key, self.images)]) for key in batch.key]
        return replace(super().prepared(batch), x=torch.stack(poisoned), beside=batch.x[:, None])
