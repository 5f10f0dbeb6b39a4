"""The switchboard: every name that a recipe may give to a component."""

from __future__ import annotations

from configs.family import Family
from modules.attacks.apgd import APGD
from modules.attacks.base import Attack
from modules.attacks.pgd import PGD
from modules.defenses.base import Defense, Undefended
from modules.defenses.clipure_cos import CLIPureCos
from modules.defenses.clipure_diff import CLIPureDiff
from modules.defenses.random_noise import RandomNoise
from modules.defenses.ttc import TTC
from modules.objectives.base import Objective
from modules.objectives.fare import FARE
from modules.objectives.tecoa import TeCoA

ATTACKS: Family[Attack] = Family("attack", {"apgd": APGD, "pgd": PGD})
DEFENSES: Family[Defense] = Family(
    "defense",
    {
        "none": Undefended,
        "random_noise": RandomNoise,
        "clipure_cos": CLIPureCos,
        "clipure_diff": CLIPureDiff,
        "ttc": TTC,
    },
)
OBJECTIVES: Family[Objective] = Family("objective", {"fare": FARE, "tecoa": TeCoA})
