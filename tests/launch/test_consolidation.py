"""A training checkpoint becomes the file that the training's end would have exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from configs.files import ConfigError
from configs.load import load_config
from configs.overrides import override
from launch.consolidation import consolidate
from modules.checkpoint import read_state
from modules.prior import load_prior, prior_metadata
from train.embed import embed
from train.finetune import finetune
from train.prior import train_prior
from train.runs import open_run

FEW = ["optimizer.warmup_steps=1", "trainer.accelerator=cpu", "data.batch_size=16"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = load_config(
        "finetune",
        "fare_tiny_eps4",
        [*FEW, "evaluation=null", "optimizer.max_steps=4", "trainer.checkpoint_every=2", "attack.steps=1"],
    )
    run = open_run("fare", config, tmp_path_factory.mktemp("fare") / "run")
    finetune(run)
    return run.folder


def test_the_last_checkpoint_of_a_fine_tuning_is_its_export(tuned: Path, tmp_path: Path) -> None:
    found, metadata = read_state(consolidate(tuned, tmp_path / "encoder.safetensors"))
    exported, said = read_state(tuned / "export" / "encoder.safetensors")
    assert found.keys() == exported.keys()
    assert all(torch.equal(found[name], exported[name]) for name in found)
    assert metadata == said


def test_an_earlier_checkpoint_is_another_encoder_of_its_own_step(tuned: Path, tmp_path: Path) -> None:
    found, metadata = read_state(consolidate(tuned / "checkpoints" / "step=000002.ckpt", tmp_path))
    exported, _ = read_state(tuned / "export" / "encoder.safetensors")
    assert metadata["step"] == 2
    assert any(not torch.equal(found[name], exported[name]) for name in found)


def test_the_average_of_a_prior_is_taken_with_what_its_run_knows(tmp_path: Path) -> None:
    embed(load_config("embed", "tiny", ["data.split=tune"]), tmp_path / "embeddings")
    shards = override("data.shards", str(tmp_path / "embeddings"))
    config = load_config(
        "prior",
        "prior_tiny",
        [*FEW, shards, "optimizer.max_steps=4", "data.validation=0", "trainer.checkpoint_every=4"],
    )
    run = open_run("prior", config, tmp_path / "run")
    export = train_prior(run)
    file = consolidate(run.folder, tmp_path / "prior.safetensors")
    one, other = load_prior(file).state_dict(), load_prior(export).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert prior_metadata(file)["encoder"] == prior_metadata(export)["encoder"]
    assert prior_metadata(file)["steps"] == 4 and "likelihood" not in prior_metadata(file)


def test_what_cannot_be_consolidated_is_named_and_nothing_is_written(tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(ConfigError, match="holds no whole checkpoint"):
        consolidate(tmp_path, out)
    with pytest.raises(ValueError, match="no checkpoint at"):
        consolidate(tmp_path / "missing.ckpt", out)
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match="is no checkpoint of finetune or prior"):
        consolidate(tmp_path / "foreign.ckpt", out)
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes((tuned / "checkpoints" / "step=000002.ckpt").read_bytes()[:5000])
    with pytest.raises(ValueError, match="is damaged"):
        consolidate(cut, out)
    assert not out.exists()
    out.touch()
    with pytest.raises(ConfigError, match="exists; name a new file"):
        consolidate(tuned, out)
