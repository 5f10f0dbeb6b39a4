"""A program for another environment's interpreter: dalle2-pytorch's prior, asked line by line; imports nothing of ours.

python peer_prior.py '{"dim": 128, "depth": 4, "heads": 4, "tokens": 77, "batch": 8, "timesteps": 1000, ...}'
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

import torch  # noqa: E402

SETTINGS: dict[str, Any] = json.loads(sys.argv[1])


def tell(values: dict[str, Any]) -> None:
    """One line to who asks."""
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def build() -> tuple[Any, Any, dict[str, Any]]:
    """Network, prior and conditions from the settings; inputs come from a file, weights go to one."""
    try:
        import dalle2_pytorch.dalle2_pytorch as library  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        sys.exit(f"dalle2-pytorch cannot be imported there: {error}")
    library.tqdm = lambda steps, *_, **__: steps
    torch.manual_seed(0)
    if SETTINGS["threads"]:
        torch.set_num_threads(SETTINGS["threads"])
    dim, device = SETTINGS["dim"], SETTINGS["device"]
    network = library.DiffusionPriorNetwork(
        dim=dim,
        depth=SETTINGS["depth"],
        heads=SETTINGS["heads"],
        max_text_len=SETTINGS["tokens"],
        num_timesteps=SETTINGS["timesteps"],
        normformer=True,
    )
    prior = library.DiffusionPrior(
        network, image_embed_dim=dim, timesteps=SETTINGS["timesteps"], cond_drop_prob=0.1
    ).to(device)
    torch.save(prior.state_dict(), SETTINGS["weights"])
    inputs = torch.load(SETTINGS["inputs"], map_location=device, weights_only=True)
    return network, prior, inputs


def main() -> None:
    """Answer ``train``, ``sample`` and ``answer`` until the lines end."""
    network, prior, inputs = build()
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1e-5)
    text, image, tokens = inputs["text"], inputs["image"], inputs["tokens"]
    condition = {"text_embed": text, "text_encodings": tokens}

    def train() -> None:
        prior.train()
        prior(text_embed=text.clone(), image_embed=image.clone(), text_encodings=tokens.clone()).backward()
        optimizer.step()
        optimizer.zero_grad()
        prior.eval()

    def sample() -> None:
        prior.p_sample_loop(tuple(image.shape), text_cond=condition, timesteps=SETTINGS["steps"])

    def answer() -> None:
        prior.eval()
        with torch.no_grad():
            torch.save(network(inputs["x_t"], inputs["t"], **condition), SETTINGS["answer"])

    tell({})
    work = {"train": train, "sample": sample, "answer": answer}
    for line in sys.stdin:
        work[line.strip()]()
        if SETTINGS["device"] == "cuda":
            torch.cuda.synchronize()
        tell({})


main()
