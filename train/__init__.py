"""One readable page per run; ``train/finetune.py`` is the one to read first."""

import modules  # noqa: F401  (its import hook must be in place before torchvision is imported)
