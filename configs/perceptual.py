"""What is wrong with a recipe of a training on triplets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from configs.evaluation import evaluation_config, judged_while_training
from configs.families import ATTACKS, METHODS
from configs.faults import family_faults, tried
from configs.heads import blind_faults
from configs.load import plain
from modules.encoders.base import ImageEncoder
from modules.perceptual.choice import threat_of
from modules.perturb.threat import Threat


class _Probe(ImageEncoder):
    """Stands in for an encoder while a method's settings are tried."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim, self.image_size = 2, 1
        self.fc1, self.fc2 = nn.Linear(3, 2), nn.Linear(2, 2)

    def encode_image(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x.flatten(1)))


def perceptual_faults(tree: Mapping[str, Any], missing: set[str]) -> list[str]:
    """One line per fault that is not one of every training.

    Args:
        tree: plain values.
        missing: keys that are missing, already told.
    """
    faults = family_faults(METHODS, "method", tree["method"], encoder=_Probe())
    if not (math.isfinite(tree["margin"]) and tree["margin"] > 0):
        faults.append(f"margin is {tree['margin']}; it is a difference of cosines above 0, such as 0.05")
    faults += _attack_faults(tree, missing)
    if tree["evaluation"] is not None:
        faults += tried("evaluation", lambda: evaluation_config(tree["evaluation"], model=tree["model"]))
        faults += [] if faults else _judging_faults(tree)
    return faults


def _attack_faults(tree: Mapping[str, Any], missing: set[str]) -> list[str]:
    if tree["attack"] is None:
        useless = tree["threat"] is not None
        return ["threat: there is no attack that it would bound; name one, or leave threat out"] if useless else []
    if tree["threat"] is None:
        return ["threat is missing: an attack needs a ball; say threat.eps=…"]
    if "threat.eps" in missing:
        return []
    said = tree["threat"]
    faults = tried("threat", lambda: threat_of(tree["target"], Threat(said["norm"], said["eps"])))
    return faults or family_faults(ATTACKS, "attack", tree["attack"], threat=Threat(said["norm"], said["eps"]))


def _judging_faults(tree: Mapping[str, Any]) -> list[str]:
    """Of an evaluation that is sound by itself."""
    if not judged_while_training(tree["evaluation"]):
        return ["evaluation.elsewhere: robustclip watch does not know these checkpoints; leave it out"]
    if tree["method"]["name"] != "mlp":
        return []
    evaluation = plain(evaluation_config(tree["evaluation"], model=tree["model"]))
    return [f"evaluation: {fault}" for fault in blind_faults(evaluation["tasks"], "the head")]
