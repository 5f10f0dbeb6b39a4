"""Embed, train a prior, and use it: the road to CLIPure-Diff."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from configs.load import load_config
from data.embeddings import EmbeddingShards
from eval.evaluate import fingerprint
from modules.encoders.tiny import load_tiny
from modules.prior.storage import load_prior, prior_metadata
from train.embed import embed
from train.prior import train_prior
from train.runs import open_run


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("embed") / "embeddings"
    return embed(load_config("embed", "tiny", ["data.split=tune"]), out)


def test_embeddings_are_the_encoders_normalised_and_say_whose_they_are(shards: Path) -> None:
    found, clip = EmbeddingShards(shards), load_tiny()
    assert len(found) == 300 and found.dim == 128
    assert found.metadata["encoder"] == fingerprint(clip.image)
    from data.sample import digits

    sample, picture = found[7], digits("tune")[7]
    clip.image.freeze()
    z = torch.nn.functional.normalize(clip.image(picture.x[None]), dim=1)[0]
    assert sample.key == picture.key and torch.allclose(sample.image, z, atol=1e-3)
    assert sample.tokens is not None and sample.tokens.shape == (20, 128)


def test_a_prior_is_trained_on_them_and_remembers_the_encoder(shards: Path, tmp_path: Path) -> None:
    settings = [f"data.shards={shards}", "optimizer.max_steps=25", "data.batch_size=32", "trainer.log_every=1"]
    config = load_config("prior", "prior_tiny", settings)
    export = train_prior(open_run("prior", config, tmp_path / "run"))
    prior = load_prior(export)
    assert prior.embedding_dim == 128
    assert prior_metadata(export)["encoder"] == EmbeddingShards(shards).metadata["encoder"]
    losses = [float(row.split(",")[1]) for row in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_existing_embeddings_are_not_written_over(shards: Path) -> None:
    with pytest.raises(ValueError, match="exists and is not empty"):
        embed(load_config("embed", "tiny", ["data.split=tune"]), shards)
