"""LoRA (arXiv:2106.09685) on an image tower of open_clip, to be merged into its weights afterwards."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import noise
from modules.encoders.base import ImageEncoder

_MLP = ("fc1", "fc2")


class LowRank(nn.Module, ABC):
    """A frozen layer with a trained product of two thin matrices beside one of its weights.

    y = W x + (alpha / rank) B A dropout(x); B starts at zero, so that at first nothing is changed.  What is dropped is
    drawn per sample (``modules.noise``), so that any number of processes trains the same weights.

    Args:
        layer: frozen here.
        rank: inner size of the product.
        alpha: numerator of its factor.
        dropout: share of x's entries that the product does not see while training.
        stream: names what is drawn for this layer.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(self, layer: nn.Module, /, *, rank: int, alpha: float, dropout: float, stream: str = "") -> None:
        super().__init__()
        _check(rank, alpha, dropout)
        self.layer = layer.requires_grad_(False)
        rows, columns = self.weight.shape
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.dropout, self.factor, self.stream = dropout, alpha / rank, f"dropout/{stream}"

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The weight [rows, columns] that the product is added to."""

    def beside(self, x: Tensor) -> Tensor:
        """[..., rows] what the product adds for x [..., columns]."""
        if self.training and self.dropout:
            kept = noise.uniform(x.detach().float(), self.stream) >= self.dropout
            x = x * kept / (1 - self.dropout)
        return self.factor * F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The layer, with the product added to its weight."""
        self.weight.add_(self.factor * self.up @ self.down)
        return self.layer


class LowRankLinear(LowRank):
    """LoRA beside a linear layer."""

    layer: nn.Linear

    @property
    def weight(self) -> Tensor:
        """Of the layer."""
        return self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        """[..., rows] of x [..., columns]."""
        return self.layer(x) + self.beside(x)


class LowRankAttention(LowRank):
    """LoRA beside the joint projection of queries, keys and values of self-attention."""

    layer: nn.MultiheadAttention

    @property
    def weight(self) -> Tensor:
        """[3 * width, width] of queries, keys and values."""
        assert self.layer.in_proj_weight is not None
        return self.layer.in_proj_weight

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Self-attention [B, L, width] (batch first) or [L, B, width], called as ``nn.MultiheadAttention`` is.

        Raises:
            ValueError: keys or values are another tensor than the queries, or weights are asked for.
        """
        if key is not query or value is not query or need_weights:
            raise ValueError("LoRA is beside the joint projection of self-attention; this attention is not")
        x = query if self.layer.batch_first else query.transpose(0, 1)
        joint = F.linear(x, self.weight, self.layer.in_proj_bias) + self.beside(x)
        heads = joint.unflatten(-1, (3, self.layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=attn_mask)
        out = self.layer.out_proj(mixed.transpose(1, 2).flatten(2))
        return (out if self.layer.batch_first else out.transpose(0, 1)), None


class LowRankEncoder(ImageEncoder):
    """An encoder whose tower LoRA stands beside, to be trained; ``merged`` makes an ordinary encoder of it.

    The released fine-tuning on NIGHTS (arXiv:2502.11725) rebuilds the ViT as another library's first; this is the
    native one, and its attention's output projection is left alone as there.

    Args:
        encoder: frozen here.
        rank: inner size of the products.
        alpha: numerator of their factor; the factor is alpha / rank.
        dropout: share of its input that a product does not see while training.

    Raises:
        ValueError: a value is out of range, or the tower has no layer that LoRA could stand beside.
    """

    def __init__(self, encoder: ImageEncoder, /, *, rank: int = 16, alpha: float = 0.5, dropout: float = 0.3) -> None:
        super().__init__()
        _check(rank, alpha, dropout)
        self.encoder = encoder.freeze()
        self.embedding_dim, self.image_size = encoder.embedding_dim, encoder.image_size
        self.layers = add_low_rank(self.encoder, rank=rank, alpha=alpha, dropout=dropout)

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D], not normalised, of x [B, 3, H, W] in [0, 1]."""
        return self.encoder.encode_image(x)

    def merged(self) -> ImageEncoder:
        """The encoder itself, in evaluation mode, every product merged into its weight; this one is done with then."""
        merge_low_rank(self.encoder)
        return self.encoder.eval()


def add_low_rank(tower: nn.Module, *, rank: int = 16, alpha: float = 0.5, dropout: float = 0.3) -> list[str]:
    """The names of the layers of a tower that LoRA now stands beside; everything else of it is frozen.

    Beside the joint projection of every attention in a ViT, or else beside ``fc1`` and ``fc2`` (ConvNeXt), as in the
    released fine-tuning on NIGHTS.  There the ViT is rebuilt as another library's; here it is the native one.

    Args:
        tower: open_clip's image tower.
        rank, alpha, dropout: see ``LowRank``.

    Raises:
        ValueError: the tower has neither.
    """
    if dropout and any("Window" in type(layer).__name__ for layer in tower.modules()):
        raise ValueError(
            "this tower's attention works on windows of images, for which LoRA drops nothing out; say dropout=0"
        )
    tower.requires_grad_(False)
    settings: dict[str, Any] = {"rank": rank, "alpha": alpha, "dropout": dropout}
    layers = list(tower.named_modules())
    attention: dict[str, LowRank] = {
        name: LowRankAttention(layer, **settings, stream=name)
        for name, layer in layers
        if isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None
    }
    found: dict[str, LowRank] = attention or _linear(layers, ("qkv",), settings) or _linear(layers, _MLP, settings)
    if not found:
        raise ValueError("LoRA needs attention with one joint projection (ViT) or fc1 and fc2 (ConvNeXt); none is here")
    for name, layer in found.items():
        _put(tower, name, layer)
    return list(found)


def _linear(
    layers: Sequence[tuple[str, nn.Module]], names: Sequence[str], settings: dict[str, Any]
) -> dict[str, LowRank]:
    own = {name: layer for name, layer in layers if name.rpartition(".")[2] in names}
    linear = {name: layer for name, layer in own.items() if isinstance(layer, nn.Linear)}
    return {name: LowRankLinear(layer, **settings, stream=name) for name, layer in linear.items()}


def _check(rank: int, alpha: float, dropout: float) -> None:
    if rank < 1:
        raise ValueError(f"rank is {rank}; it must be at least 1")
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha is {alpha}; it must be above 0")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; it is a share of the input, at least 0 and below 1")


def merge_low_rank(tower: nn.Module) -> nn.Module:
    """The tower, every product merged into its weight: as before in shape and names."""
    for name, layer in list(tower.named_modules()):
        if isinstance(layer, LowRank):
            _put(tower, name, layer.merged())
    return tower


def _put(tower: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(tower.get_submodule(parent), own, layer)
