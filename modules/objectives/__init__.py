"""Objectives of adversarial fine-tuning."""

from modules.objectives.base import Objective
from modules.objectives.fare import FARE
from modules.objectives.tecoa import TeCoA

__all__ = ["FARE", "Objective", "TeCoA"]
