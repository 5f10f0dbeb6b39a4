"""Robust perception: what an encoder finds alike, chosen between, looked for and looked into."""

from modules.perceptual.choice import Choice, Target
from modules.perceptual.ensemble import Ensemble
from modules.perceptual.metric import PerceptualMetric

__all__ = ["Choice", "Ensemble", "PerceptualMetric", "Target"]
