"""The diffusion prior over CLIP embeddings: schedule, network, training loss, sampling, files."""

from modules.prior.diffusion import DiffusionPrior as DiffusionPrior
from modules.prior.network import PriorNetwork as PriorNetwork
from modules.prior.schedule import NoiseSchedule as NoiseSchedule
from modules.prior.storage import load_prior as load_prior
from modules.prior.storage import prior_metadata as prior_metadata
from modules.prior.storage import save_prior as save_prior
