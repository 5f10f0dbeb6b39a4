"""Class names and templates that installed packages publish; read from them, never copied."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path


def imagenet_names() -> list[str]:
    """The 1,000 English names of open_clip, in the order of the WordNet ids; two pairs of classes share a name."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return list(IMAGENET_CLASSNAMES)


def imagenet_names_without_maillot() -> list[str]:
    """The names of 999 classes: n03710637 (maillot) is left out, as TTC does."""
    left_out = _synsets("imagenet_synsets.txt").index("n03710637")
    return [name for i, name in enumerate(imagenet_names()) if i != left_out]


def imagenet_templates() -> list[str]:
    """OpenAI's 80 templates for ImageNet, as open_clip has them."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]


def imagenet_r_names() -> list[str]:
    """The names of ImageNet-R's 200 classes, in the order of their WordNet ids."""
    number = {synset: i for i, synset in enumerate(_synsets("imagenet_synsets.txt"))}
    names = imagenet_names()
    return [names[number[synset]] for synset in _synsets("imagenet_r_synsets.txt")]


def flowers102_names() -> list[str]:
    """The 102 names that torchvision gives the numbered classes of Flowers-102."""
    from torchvision.datasets import Flowers102

    return list(Flowers102.classes)


LISTS: dict[str, Callable[[], list[str]]] = {
    "open_clip.imagenet_names": imagenet_names,
    "open_clip.imagenet_names_without_n03710637": imagenet_names_without_maillot,
    "open_clip.imagenet_templates": imagenet_templates,
    "timm.imagenet_r_names": imagenet_r_names,
    "torchvision.flowers102_names": flowers102_names,
}


def published(name: str) -> list[str]:
    """A list by its name.

    Raises:
        ValueError: the installed package does not have it.
    """
    try:
        return LISTS[name]()
    except (ImportError, AttributeError, OSError) as error:
        package = name.partition(".")[0]
        raise ValueError(
            f"the installed {package} has no {name}; install the version of .ci/constraints.txt"
        ) from error


def _synsets(file: str) -> list[str]:
    """One of timm's lists of WordNet ids, without importing timm."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise ImportError("no timm")
    return (Path(spec.origin).parent / "data" / "_info" / file).read_text(encoding="utf-8").split()
