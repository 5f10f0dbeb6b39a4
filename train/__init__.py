"""One readable page per run; ``train/finetune.py`` is the one to read first."""

from pathlib import Path
from runpy import run_path

run_path(str(Path(__file__).parents[1] / "data" / "siblings.py"))["require_siblings"](__name__, __file__)

import modules  # noqa: E402, F401  (its import hook must be in place before torchvision is imported)
