"""Attacks: everything that looks for a point of high loss inside a threat."""

from modules.attacks.apgd import APGD
from modules.attacks.base import Attack
from modules.attacks.pgd import PGD

__all__ = ["APGD", "PGD", "Attack"]
