"""The parts: encoders, attacks, defences, objectives, the prior, and the LightningModules that train them."""

from pathlib import Path
from runpy import run_path

run_path(str(Path(__file__).parents[1] / "data" / "siblings.py"))["require_siblings"](__name__, __file__)

from modules import torchvision_compat  # noqa: E402

torchvision_compat.install()
