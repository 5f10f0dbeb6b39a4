"""The prior's network: reads text, step and noisy image embedding; predicts the clean one.

Shapes: B batch, L text states, N tokens, D width, H heads, E channels per head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.choices import check_choice
from modules.prior.attention import Attention, AttentionKind
from modules.prior.layers import FeedForward, SinusoidalTime, TimeMLP
from modules.prior.nulls import LEARNED_IMAGE, LEARNED_STATES, UNDROPPED, NullKind, text_with_nulls
from modules.prior.positions import Rotary
from modules.prior.transformer import CausalTransformer, StableNorm, TextPrefix

_RATES = ("attn_dropout", "ff_dropout")
_CHOICES = {"attention": AttentionKind, "nulls": NullKind, "stable_norm": StableNorm}


class PriorNetwork(nn.Module):
    """The causal transformer of DALL-E 2's prior (arXiv:2204.06125); fits DALLE2-pytorch 1.15.

    The sequence is [text states | text embedding | step | noisy image embedding | (own estimate) |
    query]; the answer is read off the last token.  No token is masked away: a missing or padded
    (all-zero) text state is replaced by a learned one.  As the text stands first and attention is
    causal, ``text_prefix`` can be computed once per text.  ``attention``, ``nulls`` and ``stable_norm``
    are there for the weights of older releases.

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
        final_proj: project the answer.
        nulls: what stands for missing text and images; see ``modules.prior.nulls``.
        stable_norm: which layer norms divide by the largest entry first.
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
        final_proj: bool = True,
        nulls: NullKind = "learned",
        stable_norm: StableNorm = "last",
    ) -> None:
        settings = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        _check(settings)
        self._settings: dict[str, Any] = settings
        self.dim, self.max_text_len, self.self_cond = dim, max_text_len, self_cond
        self.num_timesteps = num_timesteps
        self.nulls: NullKind = nulls
        self.to_text_embeds = _tokens(dim, num_text_embeds)
        self.to_image_embeds = _tokens(dim, num_image_embeds)
        self.to_time_embeds = nn.Sequential(
            nn.Embedding(num_timesteps, num_time_embeds * dim)
            if num_timesteps is not None
            else nn.Sequential(SinusoidalTime(dim), TimeMLP(dim, num_time_embeds * dim)),
            nn.Unflatten(-1, (num_time_embeds, dim)),
        )
        self.learned_query = nn.Parameter(torch.randn(dim))
        self.null_text_encodings = _rows(1, max_text_len, dim) if nulls in LEARNED_STATES else None
        self.null_text_embeds = _rows(1, num_text_embeds, dim) if nulls == "learned" else None
        self.null_image_embed = _rows(1, dim) if nulls in LEARNED_IMAGE else None
        self.causal_transformer = CausalTransformer(
            dim,
            _layers(settings),
            heads=heads,
            norm_in=norm_in,
            norm_out=norm_out,
            final_proj=final_proj,
            stable_norm=stable_norm,
        )

    @property
    def textless(self) -> bool:
        """Whether it has learnt to do without a text."""
        return self.nulls not in UNDROPPED

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
        tokens_BND, hidden_BN = self._image_tokens(x_t, t, keep_image, self_cond), None
        if prefix is None:
            text_BND, hidden_BN = self._text_tokens(text_embedding, text_tokens, keep_text, like=x_t)
            if hidden_BN is not None:
                hidden_BN = F.pad(hidden_BN, (0, tokens_BND.shape[1]), value=False)
            tokens_BND = torch.cat([text_BND, tokens_BND], dim=1)
        return self.causal_transformer(tokens_BND, prefix, hidden_BN)[0]

    def text_prefix(self, text_embedding: Tensor | None, text_tokens: Tensor | None = None) -> TextPrefix:
        """Keys and values of the text, for ``forward``; a single text serves any number of images.

        Args:
            text_embedding: [B, D] or [1, D] L2-normalised; None for learned nulls.
            text_tokens: [B, L', D] or [1, L', D] states of the text tokens.
        """
        like = self.learned_query[None] if text_embedding is None else text_embedding
        text_BND, hidden_BN = self._text_tokens(text_embedding, text_tokens, None, like=like)
        return self.causal_transformer(text_BND, None, hidden_BN)[1]

    def _text_tokens(
        self,
        embedding_BD: Tensor | None,
        states_BLD: Tensor | None,
        keep_B: Tensor | None,
        *,
        like: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        L, D = self.max_text_len, self.dim
        if embedding_BD is None:  # what stands there does not matter, as none of it is kept
            if not self.textless:
                raise ValueError("this prior never learnt to do without a text; give it one, and no guidance")
            embedding_BD, states_BLD = torch.zeros_like(like), None
            keep_B = like.new_zeros(len(like), dtype=torch.bool)
        states_BLD = embedding_BD.new_zeros(len(like), 0, D) if states_BLD is None else states_BLD
        if states_BLD.shape[-1] != D:
            raise ValueError(
                f"text states are {states_BLD.shape[-1]} wide but the prior is {D} wide; "
                "train it without text tokens for this encoder"
            )
        states_BLD = states_BLD[:, :L].to(like.dtype)
        states_BLD = F.pad(states_BLD, (0, 0, 0, L - states_BLD.shape[1]))
        embeds_BND = self.to_text_embeds(embedding_BD)
        nulls = self.null_text_encodings, self.null_text_embeds
        return text_with_nulls(self.nulls, states_BLD, embeds_BND, keep_B, *nulls)

    def _image_tokens(self, x_BD: Tensor, t_B: Tensor, keep_B: Tensor | None, self_cond_BD: Tensor | None) -> Tensor:
        time, image = self.to_time_embeds(t_B), self.to_image_embeds(x_BD)
        if keep_B is not None and self.null_image_embed is not None:
            image = torch.where(keep_B[:, None, None], image, self.null_image_embed.to(image.dtype))
        tokens = [time.to(image.dtype), image]
        if self.self_cond:
            tokens.append((torch.zeros_like(x_BD) if self_cond_BD is None else self_cond_BD)[:, None])
        tokens.append(self.learned_query.to(image.dtype).expand(len(x_BD), 1, -1))
        return torch.cat(tokens, dim=1)


def _rows(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def _tokens(dim: int, count: int) -> nn.Sequential:
    """[B, D] -> [B, n, D]; a single token is the embedding itself."""
    spread = nn.Linear(dim, count * dim) if count > 1 else nn.Identity()
    return nn.Sequential(spread, nn.Unflatten(-1, (count, dim)))


def _layers(settings: dict[str, Any]) -> list[tuple[Attention, FeedForward]]:
    dim, dim_head = settings["dim"], settings["dim_head"]
    stable = settings["stable_norm"] == "all"
    rotary = Rotary(2 * (min(32, dim_head) // 2)) if settings["rotary"] else None

    def layer() -> tuple[Attention, FeedForward]:
        attention = Attention(
            dim,
            heads=settings["heads"],
            dim_head=dim_head,
            rotary=rotary,
            attention=settings["attention"],
            dropout=settings["attn_dropout"],
            stable=stable,
        )
        feed_forward = FeedForward(
            dim,
            mult=settings["ff_mult"],
            normformer=settings["normformer"],
            dropout=settings["ff_dropout"],
            stable=stable,
        )
        return attention, feed_forward

    return [layer() for _ in range(settings["depth"])]


def _check(settings: dict[str, Any]) -> None:
    for name, kind in _CHOICES.items():
        check_choice(name, settings[name], kind)
    for name, value in settings.items():
        least = 0 if name == "max_text_len" and settings["nulls"] not in LEARNED_STATES else 1
        if type(value) is int and value < least and name not in _RATES:
            raise ValueError(f"{name}={value}: must be at least {least}")
    for name in _RATES:
        if not 0 <= settings[name] < 1:
            raise ValueError(f"{name}={settings[name]}: must be in [0, 1)")
