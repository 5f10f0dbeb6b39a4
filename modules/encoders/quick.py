"""Layers of image towers that compute what they did, on shorter ways; weights and their names stay.

Where gradients are asked for, a ViT's last block computes the class token alone, the only one that is read.  And where
they are asked of pixels alone, with frozen weights, two of torch's layers take detours: the projection of a multi-head
attention becomes one product of matrices for every token, for it meets a transposed tensor with weights that want no
gradient; and the gradient of a convolution in patches is computed as that of any convolution.  Everywhere else the
layers of torch and open_clip answer, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedAttention(nn.MultiheadAttention):
    """Attention whose keys and values, and queries of the same tokens, are one product for all tokens of all images."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **settings: Any) -> Any:
        """As ``nn.MultiheadAttention``; anything but plain attention to one [B, L, D] under attack goes its way."""
        plain = key is value and query.dim() == 3 and not settings.get("need_weights", True) and not args
        asked = any(value is not None and value is not False for value in settings.values())
        if not plain or asked or not _attacked(query, self.in_proj_weight):
            return super().forward(query, key, value, *args, **settings)
        weight, bias, width = self.in_proj_weight, self.in_proj_bias, query.shape[2]
        if query is key:
            q, k, v = self._heads(F.linear(query, weight, bias), 3)
        else:
            own, others = (None, None) if bias is None else (bias[:width], bias[width:])
            (q,) = self._heads(F.linear(query, weight[:width], own), 1)
            k, v = self._heads(F.linear(key, weight[width:], others), 2)
        dropped = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
        return self.out_proj(found.transpose(1, 2).reshape(query.shape)), None

    def _heads(self, packed: Tensor, parts: int) -> Tensor:
        """[parts, B, heads, L, D / heads] of [B, L, parts * D]."""
        return packed.unflatten(2, (parts, self.num_heads, -1)).permute(2, 0, 3, 1, 4)


class PatchConv2d(nn.Conv2d):
    """A convolution whose kernels do not overlap: one product of matrices, and so are its gradients."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is torch's
        """[B, D, H/k, W/k] of [B, C, H, W]; sides that are no multiple of k go torch's way."""
        (high, wide), (batch, channels, height, width) = self.kernel_size, input.shape
        if height % high or width % wide or not _attacked(input, self.weight):
            return super().forward(input)
        rows, columns = height // high, width // wide
        patches = input.reshape(batch, channels, rows, high, columns, wide).permute(0, 2, 4, 1, 3, 5)
        found = F.linear(patches.reshape(batch, rows, columns, -1), self.weight.flatten(1), self.bias)
        return found.permute(0, 3, 1, 2)


def _attacked(x: Tensor, weight: Tensor) -> bool:
    """Whether gradients are asked of what goes in, and none of the weights."""
    return torch.is_grad_enabled() and x.requires_grad and not weight.requires_grad


def quicken(tower: nn.Module) -> None:
    """Let the layers of a tower that can take the shorter ways."""
    for layer in tower.modules():
        if type(layer) is nn.MultiheadAttention and _is_plain(layer):
            layer.__class__ = PackedAttention
        elif type(layer) is nn.Conv2d and _is_of_patches(layer):
            layer.__class__ = PatchConv2d
    if type(tower).__module__ == "open_clip.transformer":
        from modules.encoders.class_token import read_class_token_alone  # imports open_clip

        read_class_token_alone(tower)


def _is_plain(layer: nn.MultiheadAttention) -> bool:
    packed = isinstance(layer.in_proj_weight, Tensor)
    return packed and layer.batch_first and layer.bias_k is None and not layer.add_zero_attn


def _is_of_patches(layer: nn.Conv2d) -> bool:
    apart = layer.stride == layer.kernel_size and min(layer.kernel_size) > 1
    return apart and layer.padding in ((0, 0), 0) and layer.dilation == (1, 1) and layer.groups == 1
