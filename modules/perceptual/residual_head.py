"""An encoder with a small trained head: what it finds alike is tuned, what it sees is not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.encoders.base import ImageEncoder


class ResidualHead(ImageEncoder):
    """A frozen encoder's embeddings z, turned into z + fc2(ReLU(fc1 z)), as on NIGHTS (DreamSim, arXiv:2306.09344).

    At first fc2 is zero, so that nothing is changed.  The text tower does not know the head: embeddings behind it are
    compared with one another, not with texts.

    Args:
        encoder: frozen here.
        hidden: size between the two layers.

    Raises:
        ValueError: ``hidden`` is below 1.
    """

    def __init__(self, encoder: ImageEncoder, /, *, hidden: int = 512) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"hidden is {hidden}; it must be at least 1")
        self.encoder = encoder.freeze()
        self.embedding_dim, self.image_size = encoder.embedding_dim, encoder.image_size
        self.fc1 = nn.Linear(encoder.embedding_dim, hidden)
        self.fc2 = nn.Linear(hidden, encoder.embedding_dim)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D], not normalised, of x [B, 3, H, W] in [0, 1]."""
        z = self.encoder.encode_image(x)
        return z + self.fc2(torch.relu(self.fc1(z)))

    def head_state(self) -> dict[str, Tensor]:
        """The trained tensors alone."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("encoder.")}

    def load_head(self, state: dict[str, Tensor]) -> ResidualHead:
        """Itself, with the head's tensors.

        Raises:
            ValueError: they are of another head.
        """
        own = self.head_state()
        wrong = sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]
        if wrong:
            raise ValueError(
                f"the head does not fit this encoder's {self.embedding_dim} numbers (at {', '.join(wrong)})"
            )
        self.load_state_dict(state, strict=False)  # complete, as compared above; the encoder is not in it
        return self
