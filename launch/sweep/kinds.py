"""What kind of recipe is swept: found from its folder or from what it says."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from configs.files import ConfigError
from configs.load import read_recipe, recipe_names

KINDS = ("finetune", "prior", "evaluate", "scorecard")
_TELLING = {
    "finetune": {"objective", "train_template"},
    "prior": {"network", "diffusion", "ema"},
    "evaluate": {"tasks", "defenses", "curve"},
    "scorecard": {"strength", "certify", "probes", "fewer"},
}
"""Settings that only one kind has."""


def kind_of(recipe: str, said: str | None = None) -> str:
    """The kind of a recipe that can be swept.

    Args:
        recipe: a shipped one's name, or a file.
        said: by the user.

    Raises:
        ConfigError: no such kind or recipe, or it could be several.
    """
    if said is not None:
        if said not in KINDS:
            raise ConfigError(f"--kind {said}: choose one of: {', '.join(KINDS)}")
        return said
    if recipe.endswith((".yaml", ".yml")):
        return _of_file(recipe)
    found = [kind for kind in KINDS if recipe in recipe_names(kind)]
    if not found:
        known = [name for kind in KINDS for name in recipe_names(kind)]
        near = ", ".join(get_close_matches(recipe, known, n=4, cutoff=0.4) or known)
        raise ConfigError(f"no recipe {recipe!r} that can be swept; choose one of: {near}, or a .yaml file")
    if len(found) > 1:
        raise ConfigError(f"{recipe!r} is the name of several recipes; say --kind {' or --kind '.join(found)}")
    return found[0]


def _of_file(recipe: str) -> str:
    keys = set(read_recipe("finetune", recipe))
    folder = Path(recipe).resolve().parent.name
    found = [kind for kind in KINDS if keys & _TELLING[kind]]
    if folder in KINDS and (not found or folder in found):
        return folder
    if len(found) != 1:
        raise ConfigError(f"{recipe} could be of any kind; say --kind {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    return found[0]
