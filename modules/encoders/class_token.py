"""The last block of a ViT of which only the class token is read: where gradients are asked for it computes no other."""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from modules.encoders.quick import PackedAttention


class ClassTokenBlock(ResidualAttentionBlock):
    """The block, where only its first token is read: of the others it computes keys and values, and keeps no more."""

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """[B, 1, D], the first of what open_clip's block makes of q_x [B, L, D]; without gradients all, bit for bit."""
        asked = torch.is_grad_enabled() and q_x.requires_grad and type(self.attn) is PackedAttention
        if not asked or k_x is not None or v_x is not None or attn_mask is not None:
            return super().forward(q_x, k_x, v_x, attn_mask)
        normed = self.ln_1(q_x)
        x = q_x[:, :1] + self.ls_1(self.attention(normed[:, :1], normed, normed))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


def read_class_token_alone(tower: nn.Module) -> None:
    """Let the last block of open_clip's ViT compute what the tower reads of it, if that is the class token."""
    if type(tower) is not VisionTransformer or tower.pool_type != "tok" or tower.attn_pool is not None:
        return
    last = tower.transformer.resblocks[-1]
    if not tower.output_tokens and tower.transformer.batch_first and type(last) is ResidualAttentionBlock:
        last.__class__ = ClassTokenBlock
