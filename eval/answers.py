"""What an encoder behind a defence answers: named noise, sound shapes, and one line when a stranger's code fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from data.batches import ImageBatch
from data.transforms import DecodeError
from eval.plan import Plan
from eval.tasks.base import Measures, Question, Ranking, Task
from modules import noise
from modules.attacks.base import Classifier
from modules.defenses.base import Defense, Undefended, View
from modules.encoders.base import ImageEncoder

ATTACK_DRAW, SCORE_DRAW = 0, 1_000_003  # the attacker never sees the noise that it is scored on


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside a stranger's defence or encoder into one line that names it.

    Raises:
        ValueError: naming ``what``; or a picture that cannot be read.
    """
    try:
        yield
    except DecodeError:
        raise  # a picture of a gallery, which names itself
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{what}: the device is out of memory; lower batch_size") from error
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{what}: {kind}{lines[0]}") from error


class Sound(ImageEncoder):
    """An encoder whose embeddings have the right shape and are finite, or nothing goes on.

    Args:
        encoder: a stranger's.
        dim: D.
    """

    def __init__(self, encoder: ImageEncoder, dim: int, /) -> None:
        super().__init__()
        self.encoder, self.embedding_dim, self.image_size = encoder, dim, encoder.image_size
        self.random = getattr(encoder, "random", False)

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D].

        Raises:
            ValueError: they are not.
        """
        return self._checked(self.encoder.encode_image(x))

    def logits(self, x: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits [B, K] by a head that meets sound embeddings only.

        Raises:
            ValueError: they are not.
        """
        return self.encoder.logits(x, lambda z: head(self._checked(z)))

    def _checked(self, z: Tensor) -> Tensor:
        if z.dim() != 2 or z.shape[1] != self.embedding_dim:
            raise ValueError(f"returned {list(z.shape)} instead of embeddings [B, {self.embedding_dim}]")
        if not torch.isfinite(z).all():
            raise ValueError("returned embeddings that are not finite")
        return z


class Answers:
    """Asks the defences of a plan about the images of a task.

    Attributes:
        device: of the encoder.

    Args:
        encoder: frozen.
        plan: whose seed names the noise.
        task: what is asked.
    """

    def __init__(self, encoder: ImageEncoder, plan: Plan, task: Task) -> None:
        self.encoder, self.plan, self.task = encoder, plan, task
        self.device = next(encoder.parameters()).device  # in training that is not always the plan's
        self._questions: dict[int, tuple[ImageEncoder, Question]] = {}
        self._neighbours: dict[str, bool] = {}

    def named(self, batch: ImageBatch, draw: int, *, nameless: bool = False) -> Any:
        """The noise scope of a batch's samples, by their names or all under one."""
        keys = noise.keys_of([""] * len(batch) if nameless else batch.key, device=batch.x.device)
        return noise.samples(keys, seed=self.plan.config.seed, draw=draw)

    def question(self, encoder: ImageEncoder) -> Question:
        """What is asked behind this encoder, bare or defended; put together once."""
        encoder = encoder.encoder if isinstance(encoder, Undefended) else encoder
        if id(encoder) not in self._questions:
            with blamed(type(encoder).__name__):
                self._questions[id(encoder)] = encoder, self.task.question(encoder)
        return self._questions[id(encoder)][1]

    def asked(self, encoder: ImageEncoder, batch: ImageBatch) -> Classifier:
        """What decides about the batch's samples behind this encoder: pixels to logits."""
        return self.question(encoder).classifier(encoder, batch)

    @torch.no_grad()
    def logits(self, defense: ImageEncoder, batch: ImageBatch, x: Tensor, draw: int = 0) -> Tensor:
        """[B, K] logits behind a defence, with noise that no attacker has seen.

        What says that it draws no noise needs no names of the images, and gets none: they give the labels away.
        """
        with self._scored(defense, batch, draw):
            logits = self.question(defense).classifier(Sound(defense, self.encoder.embedding_dim), batch)(x)
            if logits.shape != (len(x), len(self.task.classes)) or not torch.isfinite(logits).all():
                expected = [len(x), len(self.task.classes)]
                raise ValueError(f"returned logits {list(logits.shape)} that are not {expected} finite numbers")
        return logits

    def forget(self, encoder: ImageEncoder) -> None:
        """Drop the question put together for an encoder that is not asked again."""
        self._questions.pop(id(encoder.encoder if isinstance(encoder, Undefended) else encoder), None)

    @torch.no_grad()
    def measures(self, defense: ImageEncoder, batch: ImageBatch, x: Tensor) -> Measures:
        """Further numbers of each image, in the first draw on which the defence is scored."""
        with self._scored(defense, batch, 0):
            return self.question(defense).measures(defense, batch, x)

    @torch.no_grad()
    def ranking(self, defense: ImageEncoder, batch: ImageBatch, x: Tensor) -> Ranking | None:
        """What each image finds first, in the first draw on which the defence is scored."""
        with self._scored(defense, batch, 0):
            return self.question(defense).ranking(defense, batch, x)

    @contextmanager
    def _scored(self, defense: ImageEncoder, batch: ImageBatch, draw: int) -> Iterator[None]:
        nameless = not getattr(defense, "random", False)
        with self.named(batch, SCORE_DRAW + draw, nameless=nameless), blamed(type(defense).__name__):
            yield

    def right(self, defense: Defense, batch: ImageBatch, x: Tensor) -> list[list[bool]]:
        """For each draw on which this defence is scored, which images are right."""
        draws = self.plan.config.score_draws if defense.random else 1
        return [(self.logits(defense, batch, x, draw).argmax(dim=1) == batch.y).tolist() for draw in range(draws)]

    @torch.no_grad()
    def scores(self, defense: Defense, batch: ImageBatch, x: Tensor) -> list[float | None] | None:
        """How far each image of x opens the defence's gate, in the first draw on which it is scored; None without gate.

        Args:
            defense: perhaps with a gate.
            batch: the images.
            x: [B, 3, H, W] the batch's own pixels, or attacked ones; no score for an image that is as it was.
        """
        if View.gate not in defense.views() or self.task.images > 1:
            return None  # a gate looks at one image
        with self.named(batch, SCORE_DRAW, nameless=not defense.random), blamed(type(defense).__name__):
            opening = defense.gate(x)
            if opening is not None and (opening.shape != (len(x),) or not torch.isfinite(opening).all()):
                raise ValueError(f"has a gate that returned {list(opening.shape)}, not {len(x)} finite numbers")
        if opening is None:
            return None
        attacked = (x is batch.x) | (x != batch.x).flatten(1).any(dim=1)
        return [score if there else None for score, there in zip(opening.tolist(), attacked.tolist(), strict=True)]

    def coupled(self, name: str, defense: Defense, batch: ImageBatch) -> bool:
        """Whether images of a batch change one another's results behind this defence."""
        if name not in self._neighbours:
            if len(batch) == 1:
                return defense.group > 1
            self._neighbours[name] = defense.group > 1 or self._moved_by_neighbours(defense, batch) > 1e-3
        return self._neighbours[name]

    def _moved_by_neighbours(self, defense: Defense, batch: ImageBatch) -> float:
        """How much logits move, relative to their spread, when images are looked at alone."""
        together = self.logits(defense, batch, batch.x)
        halves = [batch.select(slice(i, None, 2)) for i in range(2)]
        alone = torch.empty_like(together)
        for i, half in enumerate(halves):
            alone[i::2] = self.logits(defense, half, half.x)
        return float((together - alone).abs().max() / together.std().clamp_min(1e-12))
