from __future__ import annotations

import pytest

from configs.files import ConfigError
from configs.load import load_config
from configs.priors import refuse_other_structure, structure_of
from configs.schema import DiffusionConfig, NetworkConfig
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork


def faults(recipe: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config("prior", recipe, overrides)
    return str(caught.value).splitlines()


def test_a_recipe_that_goes_on_asks_for_the_file() -> None:
    assert faults("prior_tiny_adapt", "data.shards=x") == ["init is missing; say init=…"]
    assert faults("prior_tiny_adapt") == ["data.shards is missing; say data.shards=…", "init is missing; say init=…"]
    config = load_config("prior", "prior_tiny_adapt", ["data.shards=x", "init=prior.safetensors"])
    assert config.init == "prior.safetensors" and config.network is None is config.diffusion


def test_faults_are_told_together() -> None:
    told = faults(
        "prior_tiny", "data.shards=x", "ema.beta=2", "network.heads=0", "validation.every=0", "data.validation=-1"
    )
    assert told == [
        "ema: beta=2.0: must be in [0, 1)",
        "network: heads=0: must be at least 1",
        "data.validation is -1; it must be 0 or more pairs, or a folder",
        "validation.every is 0; it must be at least 1",
    ]


def test_a_model_needs_its_name() -> None:
    assert faults("prior_tiny", "data.shards=x", "model.name=???") == ["model.name is missing; say model.name=…"]
    assert load_config("prior", "prior_tiny", ["data.shards=x", "model=null"]).model is None


def test_the_recipes_words_for_a_priors_structure_are_the_schemas() -> None:
    """Whatever a recipe may say of network and diffusion is compared with a file that is gone on from."""
    prior = DiffusionPrior(PriorNetwork(dim=8, depth=1, heads=1, num_timesteps=10), NoiseSchedule(timesteps=10))
    said = structure_of(prior.config())
    assert set(vars(NetworkConfig())) <= set(said["network"])
    assert set(vars(DiffusionConfig())) == set(said["diffusion"])
    refuse_other_structure({"network": None, "diffusion": None}, prior.config(), "a file")
    refuse_other_structure({"network": {"depth": 1}, "diffusion": {"timesteps": 10}}, prior.config(), "a file")
    with pytest.raises(ConfigError, match="^diffusion.kind is 'linear' but 'cosine' in a file; leave out 'diffusion'"):
        refuse_other_structure({"network": None, "diffusion": {"kind": "linear"}}, prior.config(), "a file")
