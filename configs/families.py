"""The switchboard: every name that a recipe may give to a component."""

from __future__ import annotations

from configs.family import Family
from modules.attacks.apgd import APGD
from modules.attacks.auto import AutoAttack
from modules.attacks.base import Attack
from modules.attacks.cw import CW
from modules.attacks.ddn import DDN
from modules.attacks.embedding import EmbeddingAttack
from modules.attacks.fab import FAB
from modules.attacks.hard_label import RayS
from modules.attacks.jump import Jump
from modules.attacks.pgd import PGD
from modules.attacks.random_points import RandomPoints
from modules.attacks.square import Square
from modules.defenses.anti_adversary import AntiAdversary
from modules.defenses.base import Defense, Undefended
from modules.defenses.clipure_cos import CLIPureCos
from modules.defenses.clipure_diff import CLIPureDiff
from modules.defenses.cosine_gate import CosineGate
from modules.defenses.csr import CSR
from modules.defenses.doc import DOC
from modules.defenses.et3 import ET3
from modules.defenses.hedge import HedgeDefense
from modules.defenses.likelihood_gate import LikelihoodGate
from modules.defenses.low_pass import LowPass
from modules.defenses.mac import MAC
from modules.defenses.nac import NAC
from modules.defenses.random_noise import RandomNoise
from modules.defenses.smoothing import RandomizedSmoothing
from modules.defenses.ttc import TTC
from modules.defenses.ttc_original import TTCOriginal
from modules.defenses.tte import TTE
from modules.objectives.base import Objective
from modules.objectives.fare import FARE
from modules.objectives.tecoa import TeCoA
from modules.perceptual.low_rank import LowRankEncoder
from modules.perceptual.residual_head import ResidualHead

ATTACKS: Family[Attack] = Family(
    "attack",
    {
        "apgd": APGD,
        "autoattack": AutoAttack,
        "cw": CW,
        "ddn": DDN,
        "embedding": EmbeddingAttack,
        "fab": FAB,
        "jump": Jump,
        "noise": RandomPoints,
        "pgd": PGD,
        "rays": RayS,
        "square": Square,
    },
)
DEFENSES: Family[Defense] = Family(
    "defense",
    {
        "none": Undefended,
        "random_noise": RandomNoise,
        "clipure_cos": CLIPureCos,
        "clipure_diff": CLIPureDiff,
        "likelihood_gate": LikelihoodGate,
        "cosine_gate": CosineGate,
        "ttc": TTC,
        "ttc_original": TTCOriginal,
        "doc": DOC,
        "nac": NAC,
        "mac": MAC,
        "csr": CSR,
        "et3": ET3,
        "anti_adversary": AntiAdversary,
        "hedge": HedgeDefense,
        "tte": TTE,
        "low_pass": LowPass,
        "smoothing": RandomizedSmoothing,
    },
)
OBJECTIVES: Family[Objective] = Family("objective", {"fare": FARE, "tecoa": TeCoA})
METHODS: Family[LowRankEncoder | ResidualHead] = Family("method", {"lora": LowRankEncoder, "mlp": ResidualHead})
