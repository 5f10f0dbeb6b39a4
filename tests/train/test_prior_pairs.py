"""What a prior's recipe says of its pictures reaches their reader."""

from __future__ import annotations

import pytest

from configs.files import ConfigError
from configs.load import load_config
from data.make import make_from_sample
from data.shard_order import ShardOrder
from data.shards import expand
from data.source import ImageSource
from train.prior_pairs import prior_pairs


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("sets") / "numbers"
    make_from_sample("digits", out, per_shard=100)
    return str(out)


def recipe(*overrides: str) -> object:
    return load_config("prior", "prior_tiny", ["model.name=tiny", "data.split=tune", *overrides])


def test_the_order_and_the_window_are_those_of_the_recipe(numbers: str) -> None:
    shards = len(expand(f"{numbers}/tune"))
    train = prior_pairs(recipe(f"data.shards={numbers}", "data.order=shards", "data.window=2")).train  # pyright: ignore[reportArgumentType]
    assert isinstance(train, ImageSource) and isinstance(train.shuffle, ShardOrder)
    assert train.shuffle.window == min(2, shards)
    assert train.bad_samples is not None and train.bad_samples.counts()["samples"] == 300


@pytest.mark.slow
def test_the_share_of_bad_pictures_is_that_of_the_recipe(numbers: str) -> None:
    train = prior_pairs(recipe(f"data.shards={numbers}", "data.skip_bad=true", "data.max_bad=0.2")).train  # pyright: ignore[reportArgumentType]
    assert isinstance(train, ImageSource) and train.bad_samples is not None
    assert getattr(train.bad_samples, "max_share") == 0.2  # noqa: B009


@pytest.mark.parametrize("setting", ["data.cache=0", "data.max_bad=2"])
def test_settings_that_cannot_be_are_refused(setting: str, numbers: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.(cache|max_bad)"):
        prior_pairs(recipe(f"data.shards={numbers}", setting))  # pyright: ignore[reportArgumentType]
