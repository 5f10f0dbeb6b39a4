"""The training that a self-test disturbs."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.files import ConfigError
from configs.load import load_config
from launch.selftest.recipe import disturbed


def test_the_embedded_one_is_short_saves_often_and_notes_its_samples() -> None:
    found = disturbed(None, [], steps=9, processes=2, strategy="ddp")
    config = load_config(found.kind, found.words[0], found.words[1:])
    assert (config.optimizer.max_steps, config.trainer.checkpoint_every, config.evaluation) == (9, 2, None)
    assert config.trainer.record_samples and config.trainer.strategy == "ddp"
    assert found.on(2, Path("x"))[-3:] == ["trainer.devices=2", "--out", "x"]


def test_what_the_user_says_stays_and_a_prior_is_a_training_too() -> None:
    said = ["data.shards=digits", "optimizer.max_steps=7", "trainer.checkpoint_every=3", "trainer.strategy=fsdp2"]
    found = disturbed("prior_tiny", said, steps=9, processes=2, strategy="ddp")
    config = load_config(found.kind, found.words[0], found.words[1:])
    assert found.kind == "prior" and (config.optimizer.max_steps, config.trainer.checkpoint_every) == (7, 3)
    assert config.trainer.strategy == "fsdp2" and config.trainer.log_every == 1
    whole = disturbed(None, ["attack={name: pgd, steps: 1, step_size: 0.01}"], steps=9, processes=2, strategy="ddp")
    assert load_config(whole.kind, whole.words[0], whole.words[1:]).attack["steps"] == 1


@pytest.mark.parametrize(
    ("recipe", "said", "processes", "told"),
    [
        ("fare_tiny", [], 2, "no training has the recipe 'fare_tiny'; choose one of: .*fare_tiny_eps4"),
        (None, ["attack.stepz=1"], 2, "stepz"),
        (None, ["trainer.devices=4"], 2, "trainer.devices is set by the self-test; say --processes"),
        (None, [], 3, "--processes 3 cannot share data.batch_size=16 equally"),
        (None, ["trainer.strategy=zero3"], 2, "ZeRO-3 shards the weights"),
    ],
)
def test_what_cannot_be_disturbed_is_told_in_a_line(
    recipe: str | None, said: list[str], processes: int, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        disturbed(recipe, said, steps=9, processes=processes, strategy="ddp")
    assert "\n" not in str(caught.value)
