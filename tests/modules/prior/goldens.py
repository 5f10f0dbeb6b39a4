"""Weights, inputs and outputs of real releases of DALLE2-pytorch, in ``golden/``.

They were made by running the prior's classes of each release, as the package index holds them, on weights drawn at
random: two layers of width 16, 24 steps; gains between 0.5 and 1.5, relative biases small enough that the softmax
stays soft.  Each file holds ``state/…``, the release's own state dict, and ``out/…``, its answers to the inputs of
``inputs.safetensors``: with text states, without, dropped, and guided by 1.5.  Where the release takes a text mask,
the padded states were noise there and zeros here.  ``loss/…`` and ``chain/…`` were computed on the noise that
``modules.noise`` gives these inputs.  ``trainer-….pth`` are files that the releases' own trainers saved.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from modules.prior.convert import Converted, convert
from modules.prior.convert_source import Source
from modules.prior.layouts import Release
from modules.prior.library_config import LibraryConfig

FOLDER = Path(__file__).parent / "golden"
RELEASES = ["0.6.0", "0.15.4", "0.16.0", "0.16.1", "0.21.3", "0.23.0", "1.4.2", "1.4.3", "1.9.0", "1.15.6"]


def golden(name: str) -> dict[str, Tensor]:
    """The tensors of a file."""
    return load_file(FOLDER / f"{name}.safetensors")


def state_of(name: str) -> dict[str, Tensor]:
    """The state dict that a release wrote."""
    return {key.removeprefix("state/"): t for key, t in golden(name).items() if key.startswith("state/")}


def release_in(name: str) -> Release:
    """The release of a golden file."""
    return tuple(int(part) for part in name.partition("-")[0].split("."))


def source_of(name: str, **changes: Tensor) -> Source:
    """A flat file of a release, as the reader gives it."""
    return Source(Path(f"{name}.pth"), {**state_of(name), **changes}, None, release_in(name), None)


def converted(name: str, config: LibraryConfig | None = None) -> Converted:
    """The prior of a golden file, predicting x_0."""
    return convert(source_of(name), config or LibraryConfig(), prediction="x0")
