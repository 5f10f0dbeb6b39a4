"""The records that flow through a run: one sample, one batch of images, one batch of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Index = Tensor | slice | Sequence[int]


@dataclass(frozen=True, eq=False)
class ImageSample:
    """One picture.

    Attributes:
        x: pixels in [0, 1], [3, H, W] float32.
        y: class index, -1 where there is no label.
        key: name of the sample, unique in its source.
        caption: text that belongs to the picture, where there is one.
    """

    x: Tensor
    y: int
    key: str
    caption: str | None = None


@dataclass(frozen=True, eq=False)
class EmbeddingSample:
    """One pair of embeddings: image [D], text [D], text tokens [L, Dt] or None, and its key."""

    image: Tensor
    text: Tensor
    tokens: Tensor | None
    key: str


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """A batch of pictures.

    Attributes:
        x: pixels in [0, 1], [B, 3, H, W] float32.
        y: class indices, [B] int64, -1 where there is no label.
        key: B names.
    """

    x: Tensor
    y: Tensor
    key: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_lengths(x=self.x, y=self.y, key=self.key)

    def __len__(self) -> int:
        return len(self.key)

    def to(self, device: torch.device | str, **kwargs: Any) -> ImageBatch:
        """The same batch on ``device``; ``kwargs`` as in ``Tensor.to``, but y keeps its dtype."""
        kept = {name: value for name, value in kwargs.items() if name != "dtype"}
        return ImageBatch(self.x.to(device, **kwargs), self.y.to(device, **kept), self.key)

    def pin_memory(self) -> ImageBatch:
        """The same batch in page-locked memory."""
        return ImageBatch(self.x.pin_memory(), self.y.pin_memory(), self.key)

    def select(self, index: Index) -> ImageBatch:
        """The samples at ``index``: [B'] int64, [B] bool, a slice or a list of ints."""
        rows = _rows(index, len(self))
        at = rows.to(self.x.device)
        return ImageBatch(self.x[at], self.y[at], tuple(self.key[i] for i in rows.tolist()))


@dataclass(frozen=True, eq=False)
class EmbeddingBatch:
    """A batch of paired embeddings.

    Attributes:
        image: [B, D].
        text: [B, D].
        tokens: states of the text tokens, [B, L, Dt], or None.
        key: B names.
    """

    image: Tensor
    text: Tensor
    tokens: Tensor | None
    key: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {} if self.tokens is None else {"tokens": self.tokens}
        _check_lengths(image=self.image, text=self.text, key=self.key, **lengths)

    def __len__(self) -> int:
        return len(self.key)

    def to(self, device: torch.device | str, **kwargs: Any) -> EmbeddingBatch:
        """The same batch on ``device``; ``kwargs`` as in ``Tensor.to``."""
        tokens = None if self.tokens is None else self.tokens.to(device, **kwargs)
        image, text = self.image.to(device, **kwargs), self.text.to(device, **kwargs)
        return EmbeddingBatch(image, text, tokens, self.key)

    def pin_memory(self) -> EmbeddingBatch:
        """The same batch in page-locked memory."""
        tokens = None if self.tokens is None else self.tokens.pin_memory()
        return EmbeddingBatch(self.image.pin_memory(), self.text.pin_memory(), tokens, self.key)

    def select(self, index: Index) -> EmbeddingBatch:
        """The samples at ``index``: [B'] int64, [B] bool, a slice or a list of ints."""
        rows = _rows(index, len(self))
        at = rows.to(self.image.device)
        tokens = None if self.tokens is None else self.tokens[at]
        keys = tuple(self.key[i] for i in rows.tolist())
        return EmbeddingBatch(self.image[at], self.text[at], tokens, keys)


def collate_images(samples: Sequence[ImageSample]) -> ImageBatch:
    """One batch of the samples, in their order; captions stay with the source.

    Raises:
        ValueError: no samples, or pictures of different sizes.
    """
    x = _stack([(s.key, s.x) for s in samples], "picture")
    y = torch.tensor([s.y for s in samples], dtype=torch.int64)
    return ImageBatch(x, y, tuple(s.key for s in samples))


def collate_embeddings(samples: Sequence[EmbeddingSample]) -> EmbeddingBatch:
    """One batch of the samples, in their order.

    Raises:
        ValueError: no samples, different sizes, or tokens on only some of them.
    """
    image = _stack([(s.key, s.image) for s in samples], "image embedding")
    text = _stack([(s.key, s.text) for s in samples], "text embedding")
    with_tokens = [(s.key, s.tokens) for s in samples if s.tokens is not None]
    if with_tokens and len(with_tokens) < len(samples):
        missing = next(s.key for s in samples if s.tokens is None)
        raise ValueError(f"sample '{missing}' has no tokens while others of its batch have some")
    tokens = _stack(with_tokens, "token table") if with_tokens else None
    return EmbeddingBatch(image, text, tokens, tuple(s.key for s in samples))


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


def _check_lengths(**fields: Tensor | tuple[str, ...]) -> None:
    lengths = {name: len(value) for name, value in fields.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"a batch's fields must have one length, not {lengths}")
