"""The records that flow through a run: one sample, one batch of images, one batch of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from data.block import in_shared_memory

Index = Tensor | slice | Sequence[int]
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class ImageSample:
    """One picture.

    Attributes:
        x: pixels in [0, 1], [3, H, W] float32.
        y: class index, -1 where there is no label.
        key: name of the sample, unique in its source.
        caption: text that belongs to the picture, where there is one.
        target: [D] what the embedding of the picture shall be, where that is known beforehand.
        beside: [M, 3, H, W] other pictures that the sample is about, such as the two it is compared with.
    """

    x: Tensor
    y: int
    key: str
    caption: str | None = None
    target: Tensor | None = None
    beside: Tensor | None = None


@dataclass(frozen=True, eq=False)
class EmbeddingSample:
    """One image embedding and what its source knows of the text that belongs to it.

    Attributes:
        image: [D].
        text: embedding of the text, [D], or None where only the caption is kept.
        tokens: states of the text's tokens, [L, Dt], or None.
        key: name of the sample.
        caption: the text itself, where it is kept.
    """

    image: Tensor
    text: Tensor | None
    tokens: Tensor | None
    key: str
    caption: str | None = None


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """A batch of pictures.

    Attributes:
        x: pixels in [0, 1], [B, 3, H, W] float32.
        y: class indices, [B] int64, -1 where there is no label.
        key: B names.
        caption: B texts, or None where not all samples have one.
        target: [B, D] float32 embeddings that are known beforehand, or None.
        beside: [B, M, 3, H, W] other pictures of each sample, or None.
    """

    x: Tensor
    y: Tensor
    key: tuple[str, ...]
    caption: tuple[str, ...] | None = None
    target: Tensor | None = None
    beside: Tensor | None = None

    def __post_init__(self) -> None:
        _check_lengths(x=self.x, y=self.y, key=self.key, caption=self.caption, target=self.target, beside=self.beside)

    def __len__(self) -> int:
        return len(self.key)

    def to(self, device: torch.device | str, **kwargs: Any) -> ImageBatch:
        """The same batch on ``device``; ``kwargs`` as in ``Tensor.to``, but y and target keep their dtypes."""
        kept = {name: value for name, value in kwargs.items() if name != "dtype"}
        return self._changed(lambda x: x.to(device, **kwargs), lambda value: value.to(device, **kept))

    def pin_memory(self) -> ImageBatch:
        """The same batch in page-locked memory."""
        return self._changed(Tensor.pin_memory, Tensor.pin_memory)

    def select(self, index: Index) -> ImageBatch:
        """The samples at ``index``: [B'] int64, [B] bool, a slice or a list of ints."""
        rows = _rows(index, len(self))
        found = self._fields(lambda value: value[rows.to(value.device)], lambda value: value[rows.to(value.device)])
        return ImageBatch(key=_chosen(self.key, rows), caption=_chosen(self.caption, rows), **found)

    def _changed(self, pixels: Callable[[Tensor], Tensor], others: Callable[[Tensor], Tensor]) -> ImageBatch:
        return ImageBatch(key=self.key, caption=self.caption, **self._fields(pixels, others))

    def _fields(self, pixels: Callable[[Tensor], Tensor], others: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        return {
            "x": pixels(self.x),
            "y": others(self.y),
            "target": None if self.target is None else others(self.target),
            "beside": None if self.beside is None else pixels(self.beside),
        }


@dataclass(frozen=True, eq=False)
class EmbeddingBatch:
    """A batch of image embeddings and their texts.

    Attributes:
        image: [B, D].
        text: embeddings of the texts, [B, D], or None.
        tokens: states of the text tokens, [B, L, Dt], or None.
        key: B names.
        caption: the B texts, or None.
    """

    image: Tensor
    text: Tensor | None
    tokens: Tensor | None
    key: tuple[str, ...]
    caption: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_lengths(image=self.image, text=self.text, tokens=self.tokens, key=self.key, caption=self.caption)

    def __len__(self) -> int:
        return len(self.key)

    def to(self, device: torch.device | str, **kwargs: Any) -> EmbeddingBatch:
        """The same batch on ``device``; ``kwargs`` as in ``Tensor.to``."""
        return EmbeddingBatch(*self._changed(lambda values: values.to(device, **kwargs)), self.key, self.caption)

    def pin_memory(self) -> EmbeddingBatch:
        """The same batch in page-locked memory."""
        return EmbeddingBatch(*self._changed(Tensor.pin_memory), self.key, self.caption)

    def select(self, index: Index) -> EmbeddingBatch:
        """The samples at ``index``: [B'] int64, [B] bool, a slice or a list of ints."""
        rows = _rows(index, len(self))
        at = rows.to(self.image.device)
        tensors = self._changed(lambda values: values[at])
        return EmbeddingBatch(*tensors, _chosen(self.key, rows), _chosen(self.caption, rows))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        text = None if self.text is None else change(self.text)
        tokens = None if self.tokens is None else change(self.tokens)
        return change(self.image), text, tokens


class StackedSamples(list[ImageSample]):
    """Samples whose pictures are the rows of ``x`` [B, 3, H, W] already, in order: their batch takes no copy."""

    def __init__(self, samples: Iterable[ImageSample], x: Tensor) -> None:
        super().__init__(samples)
        self.x = x


def collate_images(samples: Sequence[ImageSample]) -> ImageBatch:
    """One batch of the samples, in their order; captions only where every sample has one.

    Raises:
        ValueError: no samples, pictures of different sizes, or a target or pictures beside on only some of them.
    """
    x = samples.x if isinstance(samples, StackedSamples) else _stack([(s.key, s.x) for s in samples], "picture")
    y = torch.tensor([s.y for s in samples], dtype=torch.int64)
    captions = tuple(s.caption for s in samples if s.caption is not None)
    targets = _on_all([(s.key, s.target) for s in samples], "target")
    beside = _on_all([(s.key, s.beside) for s in samples], "pictures beside it")
    batch = ImageBatch(
        x,
        y,
        tuple(s.key for s in samples),
        captions if len(captions) == len(samples) else None,
        _stack(targets, "target") if targets else None,
        _stack(beside, "pictures beside") if beside else None,
    )
    return in_shared_memory(batch)


def collate_embeddings(samples: Sequence[EmbeddingSample]) -> EmbeddingBatch:
    """One batch of the samples, in their order.

    Raises:
        ValueError: no samples, different sizes, or a text, tokens or caption on only some of them.
    """
    image = _stack([(s.key, s.image) for s in samples], "image embedding")
    text = _on_all([(s.key, s.text) for s in samples], "text embedding")
    tokens = _on_all([(s.key, s.tokens) for s in samples], "tokens")
    captions = _on_all([(s.key, s.caption) for s in samples], "caption")
    batch = EmbeddingBatch(
        image,
        _stack(text, "text embedding") if text else None,
        _stack(tokens, "token table") if tokens else None,
        tuple(s.key for s in samples),
        tuple(caption for _, caption in captions) or None,
    )
    return in_shared_memory(batch)


def _on_all(named: Sequence[tuple[str, Value | None]], what: str) -> list[tuple[str, Value]]:
    """The values with their names, of all samples or of none."""
    found = [(key, value) for key, value in named if value is not None]
    if found and len(found) < len(named):
        missing = next(key for key, value in named if value is None)
        raise ValueError(f"sample '{missing}' has no {what} while others of its batch have some")
    return found


def _chosen(values: tuple[str, ...] | None, rows: Tensor) -> Any:
    return None if values is None else tuple(values[i] for i in rows.tolist())


def _stack(named: Sequence[tuple[str, Tensor]], what: str) -> Tensor:
    if not named:
        raise ValueError("a batch needs at least one sample")
    (first, reference), *others = named
    for key, value in others:
        if value.shape != reference.shape:
            raise ValueError(
                f"{what} '{key}' is {tuple(value.shape)}, '{first}' is {tuple(reference.shape)}; "
                "give the source one image size"
            )
    return torch.stack([value for _, value in named])


def _rows(index: Index, length: int) -> Tensor:
    if isinstance(index, slice):
        return torch.arange(length)[index]
    rows = torch.as_tensor(index, device="cpu")
    if rows.dtype == torch.bool:
        if rows.shape != (length,):
            raise ValueError(f"a mask of {tuple(rows.shape)} does not select from {length} samples")
        return rows.nonzero().flatten()
    return rows.to(torch.int64).reshape(-1)


def _check_lengths(**fields: Tensor | tuple[str, ...] | None) -> None:
    lengths = {name: len(value) for name, value in fields.items() if value is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"a batch's fields must have one length, not {lengths}")
