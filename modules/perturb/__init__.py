"""The shared ground of attacks, training and counterattacks: the threat, the losses, the ascent."""

from modules.perturb.ascent import Iterate, ascend
from modules.perturb.losses import Loss
from modules.perturb.threat import Threat

__all__ = ["Iterate", "Loss", "Threat", "ascend"]
