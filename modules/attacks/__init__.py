"""Attacks: everything that looks for a point of high loss inside a threat."""

from modules.attacks.apgd import APGD
from modules.attacks.base import Attack
from modules.attacks.fab import FAB
from modules.attacks.pgd import PGD
from modules.attacks.square import Square

__all__ = ["APGD", "FAB", "PGD", "Attack", "Square"]
