"""The parts: encoders, attacks, defences, objectives, the prior, and the LightningModules that train them."""

from modules import torchvision_compat

torchvision_compat.install()
