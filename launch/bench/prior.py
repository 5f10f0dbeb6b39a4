"""The prior beside dalle2-pytorch's: a training step and sampling, with the same weights, in processes of their own."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from configs.files import ConfigError
from eval.speed import Record
from launch.bench.crew import Member, crew
from launch.bench.race import race
from modules.lightning.optim import OptimizerSettings
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork

TIMESTEPS, STEPS, TOKENS, WORDS = 1000, 64, 77, 20
SIZES = {"small": (128, 4, 4, 16), "large": (768, 12, 12, 4)}
"""Names in findings: width, depth, heads, and the batch on a CPU."""
PEER = Path(__file__).with_name("peer_prior.py")


def prior(*, quick: bool, device: torch.device, rounds: int, peer: str | None = None) -> Record:
    """Seconds of dalle2-pytorch over ours, and how far the answers of the same weights are apart.

    Args:
        quick: the small size.
        device: where.
        rounds: repetitions.
        peer: the Python of an environment that has dalle2-pytorch; without it only ours is timed.

    Raises:
        ConfigError: there is no such Python, or no dalle2-pytorch in it.
    """
    if peer is not None and not Path(peer).is_file():
        raise ConfigError(f"--peer {peer}: no such file; name the Python of an environment that has dalle2-pytorch")
    record = Record(
        "prior",
        f"a training step, and {STEPS} steps of DDIM of a prior of {TIMESTEPS} timesteps with {TOKENS} tokens of text"
        + ("" if peer else "; --peer PYTHON, of an environment with dalle2-pytorch 1.15.6, races against it"),
    )
    for name in ["small"] if quick else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            _race_one(record, name, _settings(name, device, Path(folder)), rounds, peer)
    return record


def _settings(name: str, device: torch.device, folder: Path) -> dict[str, Any]:
    dim, depth, heads, batch = SIZES[name]
    batch *= 16 if device.type == "cuda" else 1
    generator = torch.Generator().manual_seed(1)
    text, image, x_t = F.normalize(torch.randn(3, batch, dim, generator=generator), dim=-1)
    tokens = torch.randn(batch, TOKENS, dim, generator=generator)
    tokens[:, WORDS:] = 0
    t = torch.randint(0, TIMESTEPS, (batch,), generator=generator)
    torch.save({"text": text, "image": image, "x_t": 5 * x_t, "tokens": tokens, "t": t}, folder / "inputs.pt")
    return {
        **{"dim": dim, "depth": depth, "heads": heads, "tokens": TOKENS, "batch": batch, "timesteps": TIMESTEPS},
        **{"steps": STEPS, "device": device.type, "threads": torch.get_num_threads()},
        **{key: str(folder / f"{key}.pt") for key in ("inputs", "weights", "answer", "ours")},
    }


def _race_one(record: Record, name: str, settings: dict[str, Any], rounds: int, peer: str | None) -> None:
    ours = Member.of(Ours, name="ours", **settings)
    members = [ours]
    if peer is not None:
        theirs = Member([peer, str(PEER), json.dumps(settings)], name=f"dalle2-pytorch in {peer}")
        members = [theirs, ours]  # ours takes their weights, which are written when they are ready
    with crew(members):
        names = {"theirs" if member is not ours else "ours": member for member in members}
        if peer is not None:
            for member in members:
                member.ask("answer")
            apart = (_read(settings["answer"]) - _read(settings["ours"])).abs().max()
            record.facts[f"{name}_answers_apart"] = float(apart)
            record.goals[f"{name}_answers_apart"] = "0 up to rounding: the same weights"
        for work, goal in (("train", "at least 1.5"), ("sample", "at least 5")):
            cases = {f"{name}_{work}_{who}": partial(member.ask, work) for who, member in names.items()}
            timings = race(cases, rounds=rounds, title=f"prior {name}: {work}")
            record.timings |= timings
            if peer is not None:
                both = (timings[f"{name}_{work}_{who}"].median for who in ("theirs", "ours"))
                record.ratios[f"{name}_{work}_ratio"] = next(both) / next(both)
                record.goals[f"{name}_{work}_ratio"] = goal


def _read(file: str) -> Any:
    return torch.load(file, map_location="cpu", weights_only=True)


class Ours:
    """Our prior, in a process of its own; takes the peer's weights where there are any."""

    def __init__(self, **settings: Any) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(settings["threads"])
        network = PriorNetwork(
            dim=settings["dim"],
            depth=settings["depth"],
            heads=settings["heads"],
            max_text_len=settings["tokens"],
            num_timesteps=settings["timesteps"],
        )
        self.prior = DiffusionPrior(network, NoiseSchedule(timesteps=settings["timesteps"])).to(settings["device"])
        self.settings = settings
        self.inputs = torch.load(settings["inputs"], map_location=settings["device"], weights_only=True)
        adamw = OptimizerSettings(lr=1e-5, weight_decay=1e-2, schedule="constant", warmup_steps=0)  # torch's defaults
        self.optimizer = adamw.build(self.prior.named_parameters())["optimizer"]

    def train(self) -> None:
        """One step of the optimizer."""
        given = self.inputs
        self.prior.train()
        self.prior.loss_per_sample(given["image"], given["text"], given["tokens"]).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.prior.eval()

    def sample(self) -> None:
        """Embeddings of images by DDIM."""
        self.prior.eval().sample(self.inputs["text"], self.inputs["tokens"], steps=STEPS, best_of=1)

    def answer(self) -> None:
        """The network's answer with the peer's weights, to a file."""
        if Path(self.settings["weights"]).is_file():
            self.prior.load_state_dict(_read(self.settings["weights"]))
        self.prior.to(self.settings["device"]).eval()
        given = self.inputs
        with torch.no_grad():
            torch.save(self.prior.net(given["x_t"], given["t"], given["text"], given["tokens"]), self.settings["ours"])
