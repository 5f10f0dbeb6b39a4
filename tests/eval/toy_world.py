"""Pictures whose classes are written twice, loudly and in a whisper, and an encoder that reads either."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor, nn

from configs.load import load_config
from data.batches import ImageBatch
from data.source import ArrayImages
from eval.judge import Judge
from eval.plan import Plan, PlannedAttack
from eval.rows import Subject
from eval.tasks.classification import ClassificationTask
from modules.attacks.apgd import APGD
from modules.attacks.base import Attack
from modules.attacks.square import Square
from modules.defenses.base import Defense, Undefended, View
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat
from modules.zero_shot import ZeroShotHead

CLASSES, SIZE, COUNT = 6, 8, 120
LOUD, WHISPER = 38 / 255, 4 / 255  # amplitude of the patterns
THREAT = Threat("linf", 8 / 255)  # drowns the whisper, not the loud pattern


def patterns(voice: Literal["loud", "whisper"]) -> Tensor:
    """[K, 3 * 64] orthogonal patterns of signs."""
    rows = hadamard(SIZE * SIZE)
    start = 1 if voice == "whisper" else 1 + CLASSES
    return torch.tensor(np.tile(rows[start : start + CLASSES], 3), dtype=torch.float32)


class Reader(ImageEncoder):
    """Reads the class from one of its two patterns; what it finds is bent by a tanh and turned.

    A reader of the loud patterns is provably robust: within 8/255 no pattern's size changes by more than 8/38.
    """

    def __init__(self, voice: Literal["loud", "whisper"]) -> None:
        super().__init__()
        size = LOUD if voice == "loud" else WHISPER
        found = patterns(voice)
        self.weight = nn.Parameter(found / found.shape[1] / size)
        turn = torch.linalg.qr(torch.randn(CLASSES, CLASSES, generator=torch.Generator().manual_seed(1))).Q
        self.turn = nn.Parameter(turn)
        self.embedding_dim, self.image_size = CLASSES, SIZE

    def encode_image(self, x: Tensor) -> Tensor:
        return torch.tanh((x - 0.5).flatten(1) @ self.weight.T) @ self.turn


def pictures() -> ArrayImages:
    """Every class as often as the others."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(COUNT) % CLASSES
    x = 0.5 + LOUD * patterns("loud")[y] + WHISPER * patterns("whisper")[y]
    x = x + 0.02 * (2 * torch.rand(x.shape, generator=generator) - 1)
    pixels = (255 * x).round().to(torch.uint8).view(-1, 3, SIZE, SIZE).permute(0, 2, 3, 1)
    keys = [f"picture {i}" for i in range(COUNT)]
    return ArrayImages(pixels.numpy(), y.numpy(), keys, classes=[f"class {k}" for k in range(CLASSES)])


def toy_task(encoder: Reader) -> ClassificationTask:
    head = ZeroShotHead(encoder.turn.detach(), [f"class {k}" for k in range(CLASSES)], logit_scale=10.0)
    return ClassificationTask("toy", pictures(), head, torch.ones(CLASSES), None)


def toy_plan(encoder: Reader, defense: Defense, *settings: str, queries: int = 150, **attacks: Attack) -> Plan:
    """The bare encoder as ``none`` and a defence as ``planted``, under Auto-PGD and Square."""
    config = load_config(
        "evaluate",
        "digits",
        [
            *("defenses={none: {}, planted: {name: none}}", "attacks={apgd: {steps: 15}}", "curve={}", "examples=0"),
            *("eot_draws=2", "score_draws=3", "cascade=view", "batch_size=120"),
            *settings,
        ],
    )
    made = attacks or {"apgd": APGD(THREAT, steps=15), "square": Square(THREAT, queries=queries)}
    return Plan(
        config=config,
        threat=THREAT,
        tasks=[toy_task(encoder)],
        defend=lambda name, encoder, task: Undefended(encoder) if name == "none" else defense,
        attacks={name: PlannedAttack(attack, {"name": name}, frozenset(View)) for name, attack in made.items()},
        device=torch.device("cpu"),
        hash="toy",
    )


def toy_judge(encoder: Reader, defense: Defense) -> tuple[Judge, ImageBatch]:
    """Who probes a defence, and all pictures."""
    encoder.freeze()
    plan = toy_plan(encoder, defense)
    task = plan.tasks[0]
    return Judge(encoder, plan, task, Subject("toy")), next(iter(task.batches(COUNT)))
