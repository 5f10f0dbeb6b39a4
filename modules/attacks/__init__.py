"""Attacks: everything that looks for a point of high loss inside a threat."""

from modules.attacks.apgd import APGD
from modules.attacks.auto import AutoAttack
from modules.attacks.base import Attack
from modules.attacks.cw import CW
from modules.attacks.embedding import EmbeddingAttack
from modules.attacks.fab import FAB
from modules.attacks.hard_label import RayS
from modules.attacks.pgd import PGD
from modules.attacks.square import Square

__all__ = ["APGD", "CW", "FAB", "PGD", "Attack", "AutoAttack", "EmbeddingAttack", "RayS", "Square"]
