"""One harness for every number: in the training loop and offline."""

import modules  # noqa: F401  (its import hook must be in place before torchvision is imported)
