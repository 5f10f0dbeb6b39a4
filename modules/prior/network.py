"""The prior's network: reads text, step and noisy image embedding; predicts the clean one.

Shapes: B batch, L text states, N tokens, D width, H heads, E channels per head.
"""

from __future__ import annotations

from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.prior.attention import Attention, AttentionKind
from modules.prior.layers import FeedForward, SinusoidalTime, TimeMLP
from modules.prior.positions import Rotary
from modules.prior.transformer import CausalTransformer, TextPrefix

_RATES = ("attn_dropout", "ff_dropout")


class PriorNetwork(nn.Module):
    """The causal transformer of DALL-E 2's prior (arXiv:2204.06125); fits DALLE2-pytorch 1.15.

    The sequence is [text states | text embedding | step | noisy image embedding | (own estimate) |
    query]; the answer is read off the last token.  No token is masked away: a missing or padded
    (all-zero) text state is replaced by a learned one.  As the text stands first and attention is
    causal, ``text_prefix`` can be computed once per text.

    Args:
        dim: D, the width of image and text embedding and of the text states.
        depth: number of layers.
        heads: H, attention heads.
        dim_head: E, channels per head.
        max_text_len: L, text states read; shorter texts are padded, longer ones cut.
        num_timesteps: rows of the step table; None for sinusoidal steps.
        num_time_embeds: tokens made of the step.
        num_image_embeds: tokens made of the image embedding.
        num_text_embeds: tokens made of the text embedding.
        ff_mult: hidden width of the feed-forward layers over D.
        normformer: second norm in the feed-forward layers.
        rotary: rotary position embedding in the attention.
        attention: cosine attention, or dot products (weights from before August 2022).
        attn_dropout: of attention weights.
        ff_dropout: of hidden layers.
        norm_in: normalise the tokens first.
        norm_out: normalise before the last projection.
        self_cond: read an earlier estimate of the answer as one more token.
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        dim_head: int = 64,
        max_text_len: int = 256,
        num_timesteps: int | None = 1000,
        num_time_embeds: int = 1,
        num_image_embeds: int = 1,
        num_text_embeds: int = 1,
        ff_mult: int = 4,
        normformer: bool = True,
        rotary: bool = True,
        attention: AttentionKind = "cosine",
        attn_dropout: float = 0.0,
        ff_dropout: float = 0.0,
        norm_in: bool = False,
        norm_out: bool = True,
        self_cond: bool = False,
    ) -> None:
        settings = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        _check(settings)
        self._settings: dict[str, Any] = settings
        self.dim, self.max_text_len, self.self_cond = dim, max_text_len, self_cond
        self.num_timesteps = num_timesteps
        self.to_text_embeds = _tokens(dim, num_text_embeds)
        self.to_image_embeds = _tokens(dim, num_image_embeds)
        self.to_time_embeds = nn.Sequential(
            nn.Embedding(num_timesteps, num_time_embeds * dim)
            if num_timesteps is not None
            else nn.Sequential(SinusoidalTime(dim), TimeMLP(dim, num_time_embeds * dim)),
            nn.Unflatten(-1, (num_time_embeds, dim)),
        )
        self.learned_query = nn.Parameter(torch.randn(dim))
        self.null_text_encodings = nn.Parameter(torch.randn(1, max_text_len, dim))
        self.null_text_embeds = nn.Parameter(torch.randn(1, num_text_embeds, dim))
        self.null_image_embed = nn.Parameter(torch.randn(1, dim))
        self.causal_transformer = CausalTransformer(
            dim,
            _layers(settings),
            heads=heads,
            norm_in=norm_in,
            norm_out=norm_out,
        )

    def config(self) -> dict[str, Any]:
        """The arguments that build this network again, plain values."""
        return dict(self._settings)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        text_embedding: Tensor | None,
        text_tokens: Tensor | None = None,
        *,
        keep_text: Tensor | None = None,
        keep_image: Tensor | None = None,
        self_cond: Tensor | None = None,
        prefix: TextPrefix | None = None,
    ) -> Tensor:
        """[B, D], the network's answer.

        Args:
            x_t: [B, D] noisy image embedding, times sqrt(D).
            t: [B] integer step.
            text_embedding: [B, D] L2-normalised; None drops the text.
            text_tokens: [B, L', D] states of the text tokens, zero after the end of the text.
            keep_text: [B] bool, where to keep the text; learned nulls stand in elsewhere.
            keep_image: [B] bool, where to keep x_t.
            self_cond: [B, D] earlier estimate; zeros if not given.
            prefix: of ``text_prefix``, instead of the text.
        """
        tokens_BND = self._image_tokens(x_t, t, keep_image, self_cond)
        if prefix is None:
            text_BND = self._text_tokens(text_embedding, text_tokens, keep_text, like=x_t)
            tokens_BND = torch.cat([text_BND, tokens_BND], dim=1)
        out_BND, _ = self.causal_transformer(tokens_BND, prefix)
        return out_BND[:, -1]

    def text_prefix(self, text_embedding: Tensor | None, text_tokens: Tensor | None = None) -> TextPrefix:
        """Keys and values of the text, for ``forward``; a single text serves any number of images.

        Args:
            text_embedding: [B, D] or [1, D] L2-normalised; None for learned nulls.
            text_tokens: [B, L', D] or [1, L', D] states of the text tokens.
        """
        like = self.null_image_embed if text_embedding is None else text_embedding
        text_BND = self._text_tokens(text_embedding, text_tokens, None, like=like)
        return self.causal_transformer(text_BND)[1]

    def _text_tokens(
        self,
        embedding_BD: Tensor | None,
        states_BLD: Tensor | None,
        keep_B: Tensor | None,
        *,
        like: Tensor,
    ) -> Tensor:
        B, (L, D) = len(like), self.null_text_encodings.shape[1:]
        null_states = self.null_text_encodings.to(like.dtype).expand(B, -1, -1)
        null_embeds = self.null_text_embeds.to(like.dtype).expand(B, -1, -1)
        if embedding_BD is None:
            return torch.cat([null_states, null_embeds], dim=1)
        embeds = self.to_text_embeds(embedding_BD)
        states_BLD = embedding_BD.new_zeros(B, 0, D) if states_BLD is None else states_BLD
        if states_BLD.shape[-1] != D:
            raise ValueError(
                f"text states are {states_BLD.shape[-1]} wide but the prior is {D} wide; "
                "train it without text tokens for this encoder"
            )
        states_BLD = states_BLD[:, :L].to(like.dtype)
        states_BLD = F.pad(states_BLD, (0, 0, 0, L - states_BLD.shape[1]))
        keep_BL = (states_BLD != 0).any(dim=-1)
        if keep_B is not None:
            keep_BL = keep_BL & keep_B[:, None]
            embeds = torch.where(keep_B[:, None, None], embeds, null_embeds)
        return torch.cat([torch.where(keep_BL[:, :, None], states_BLD, null_states), embeds], dim=1)

    def _image_tokens(self, x_BD: Tensor, t_B: Tensor, keep_B: Tensor | None, self_cond_BD: Tensor | None) -> Tensor:
        time, image = self.to_time_embeds(t_B), self.to_image_embeds(x_BD)
        if keep_B is not None:
            null = self.null_image_embed.to(image.dtype)
            image = torch.where(keep_B[:, None, None], image, null)
        tokens = [time.to(image.dtype), image]
        if self.self_cond:
            tokens.append((torch.zeros_like(x_BD) if self_cond_BD is None else self_cond_BD)[:, None])
        tokens.append(self.learned_query.to(image.dtype).expand(len(x_BD), 1, -1))
        return torch.cat(tokens, dim=1)


def _tokens(dim: int, count: int) -> nn.Sequential:
    """[B, D] -> [B, n, D]; a single token is the embedding itself."""
    spread = nn.Linear(dim, count * dim) if count > 1 else nn.Identity()
    return nn.Sequential(spread, nn.Unflatten(-1, (count, dim)))


def _layers(settings: dict[str, Any]) -> list[tuple[Attention, FeedForward]]:
    dim, dim_head = settings["dim"], settings["dim_head"]
    rotary = Rotary(2 * (min(32, dim_head) // 2)) if settings["rotary"] else None

    def layer() -> tuple[Attention, FeedForward]:
        attention = Attention(
            dim,
            heads=settings["heads"],
            dim_head=dim_head,
            rotary=rotary,
            attention=settings["attention"],
            dropout=settings["attn_dropout"],
        )
        feed_forward = FeedForward(
            dim,
            mult=settings["ff_mult"],
            normformer=settings["normformer"],
            dropout=settings["ff_dropout"],
        )
        return attention, feed_forward

    return [layer() for _ in range(settings["depth"])]


def _check(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if type(value) is int and value < 1 and name not in _RATES:
            raise ValueError(f"{name}={value}: must be at least 1")
    for name in _RATES:
        if not 0 <= settings[name] < 1:
            raise ValueError(f"{name}={settings[name]}: must be in [0, 1)")
    if settings["attention"] not in get_args(AttentionKind):
        raise ValueError(f"unknown attention {settings['attention']!r}; choose one of: cosine, dot")
