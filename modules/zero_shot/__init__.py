"""Zero-shot classification: class names in, a classifier out."""

from modules.zero_shot.classifier import ZeroShotClassifier
from modules.zero_shot.head import ZeroShotHead, blank_embedding, class_embeddings, zero_shot_head
from modules.zero_shot.memory import TextMemory

__all__ = [
    "TextMemory",
    "ZeroShotClassifier",
    "ZeroShotHead",
    "blank_embedding",
    "class_embeddings",
    "zero_shot_head",
]
