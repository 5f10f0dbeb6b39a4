"""One harness for every number: in the training loop and offline."""

from pathlib import Path
from runpy import run_path

run_path(str(Path(__file__).parents[1] / "data" / "siblings.py"))["require_siblings"](__name__, __file__)

import modules  # noqa: E402, F401  (its import hook must be in place before torchvision is imported)
