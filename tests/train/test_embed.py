"""``robustclip embed``: from images, from embeddings of others, and from our own shards."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from configs.load import load_config
from data.embeddings import EmbeddingShards
from data.make import make_from_sample
from data.sample import captions, digits
from data.shards import stream, write_shards
from eval.evaluate import fingerprint
from modules.encoders.tiny import load_tiny
from train.embed import embed


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingShards:
    """The digits with captions."""
    out = tmp_path_factory.mktemp("embed") / "embeddings"
    return EmbeddingShards(embed(load_config("embed", "tiny", ["data.split=tune", "text=caption"]), out))


Folder = Callable[..., Path]


@pytest.fixture
def folder(shards: EmbeddingShards, tmp_path: Path) -> Folder:
    """(image, text, captions) -> those tables, by default the digits', in the layout parquet_npy."""

    def write(image: Any = None, text: Any = None, said: list[str] | None = None) -> Path:
        samples = [shards[i] for i in range(len(shards))]
        image = np.stack([s.image.numpy() for s in samples]) if image is None else image
        out = tmp_path / "stored"
        for name in ("img_emb", "metadata", *([] if text is None else ["text_emb"])):
            (out / name).mkdir(parents=True)
        for part, rows in enumerate((slice(0, 100), slice(100, 300))):
            np.save(out / "img_emb" / f"img_emb_{part}.npy", image[rows].astype(np.float16))
            if text is not None:
                np.save(out / "text_emb" / f"text_emb_{part}.npy", text[rows].astype(np.float16))
            columns = {
                "caption": (said or [s.caption or "" for s in samples])[rows],
                "key": [s.key for s in samples][rows],
            }
            pq.write_table(pa.table(columns), out / "metadata" / f"metadata_{part}.parquet")
        return out

    return write


def _config(where: Path | str, *overrides: str) -> Any:
    return load_config("embed", "tiny", [f"data.shards={where}", "data.split=tune", *overrides])


@pytest.mark.parametrize(("text", "tokens", "caption"), [("tokens", True, False), ("embedding", False, False)])
def test_the_text_is_kept_in_the_form_that_was_asked_for(
    text: str, tokens: bool, caption: bool, tmp_path: Path
) -> None:
    source = EmbeddingShards(embed(_config("digits", f"text={text}"), tmp_path / "e"))
    sample = source[299]
    assert (sample.tokens is not None, source.has_captions, sample.text is not None) == (tokens, caption, True)


def test_kept_captions_are_those_that_were_encoded(shards: EmbeddingShards) -> None:
    clip = load_tiny()
    assert clip.text is not None
    said = [shards[i].caption for i in range(len(shards))]
    assert said == captions(digits("tune"))
    sample = shards[123]
    assert sample.text is not None and sample.tokens is None
    assert torch.allclose(clip.text.encode_text([sample.caption or ""])[0], sample.text, atol=1e-5)


def test_stored_embeddings_are_taken_as_they_are(shards: EmbeddingShards, folder: Folder, tmp_path: Path) -> None:
    where = folder()
    out = embed(_config(where, "text=tokens", "data.batch_size=64"), tmp_path / "e")
    found = EmbeddingShards(out)
    assert found.metadata["encoder"] is None
    assert found.metadata["images"]["taken_from"]["layout"] == "parquet_npy"
    assert len(found) == 300
    for i in (0, 99, 100, 299):
        ours, theirs = found[i], shards[i]
        assert ours.key == theirs.key and torch.equal(ours.image, theirs.image.half().float())
        assert ours.text is not None and theirs.text is not None and ours.tokens is not None
        assert torch.allclose(ours.text, theirs.text, atol=1e-5)


def test_the_user_may_vouch_for_the_encoder(folder: Folder, tmp_path: Path) -> None:
    out = embed(_config(folder(), "data.same_encoder=true"), tmp_path / "e")
    assert EmbeddingShards(out).metadata["encoder"] == fingerprint(load_tiny().image)


def test_embeddings_of_another_text_tower_are_refused(shards: EmbeddingShards, folder: Folder, tmp_path: Path) -> None:
    texts = np.stack([sample.text.numpy() for i in range(300) if (sample := shards[i]).text is not None])
    where = folder(text=texts)
    assert len(EmbeddingShards(embed(_config(where), tmp_path / "right"))) == 300
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(128, 128)))[0]
    for path in (where / "text_emb").iterdir():
        np.save(path, (np.load(path) @ turned).astype(np.float16))
    with pytest.raises(
        ValueError, match=r"text embeddings in .* are not those of the model: .* cosine .* is -?0\.[012]"
    ):
        embed(_config(where), tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_embeddings_of_another_dimension_or_length_are_refused(folder: Folder, tmp_path: Path) -> None:
    wide = np.eye(300, 64)
    with pytest.raises(ValueError, match="have dimension 64, those of the model 128"):
        wide[:, 0] += ~wide.any(axis=1)
        embed(_config(folder(image=wide)), tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_lengths_are_scaled_only_when_asked(shards: EmbeddingShards, folder: Folder, tmp_path: Path) -> None:
    long = np.stack([shards[i].image.numpy() * (1 + i % 7) for i in range(300)])
    where = folder(image=long)
    with pytest.raises(ValueError, match="of unit length .data.normalise=true"):
        embed(_config(where), tmp_path / "e")
    found = EmbeddingShards(embed(_config(where, "data.normalise=true"), tmp_path / "e"))
    assert torch.allclose(found[5].image, shards[5].image, atol=1e-3)


def test_shards_with_captions_can_be_given_token_states(shards: EmbeddingShards, tmp_path: Path) -> None:
    out = embed(_config(shards.folder, "text=tokens"), tmp_path / "e")
    found = EmbeddingShards(out)
    assert found.metadata["encoder"] == shards.metadata["encoder"]
    assert found[7].tokens is not None and torch.equal(found[7].image, shards[7].image)
    with pytest.raises(ValueError, match="keeps no captions to encode; embed its images with text=caption"):
        embed(_config(out), tmp_path / "again")


def test_lone_halves_and_broken_pictures_are_left_out_only_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_from_sample("digits", tmp_path / "d")
    samples = list(stream([str(tmp_path / "d" / "tune" / "0.tar")]))[:11]
    del samples[2]["txt"], samples[5]["png"]
    samples[10]["png"] = b"no picture"
    write_shards(tmp_path / "broken" / "tune", samples)
    where = tmp_path / "broken"
    with pytest.raises(ValueError, match="1 have no picture, .*, 1 have no caption"):
        embed(_config(where), tmp_path / "e")
    with pytest.raises(ValueError, match=r"2 of 11 images of 'broken' are bad \(.*\), more than data.max_bad = 0.1 "):
        embed(_config(where, "data.skip_bad=true", "data.max_bad=0.1"), tmp_path / "e")
    with caplog.at_level(logging.WARNING):
        rest = ("data.skip_bad=true", "data.max_bad=0.3", "text=caption", "data.batch_size=4")
        out = embed(_config(where, *rest), tmp_path / "e")
    found = EmbeddingShards(out)
    assert [found[i].key for i in range(len(found))] == [samples[i]["__key__"] for i in (0, 1, 3, 4, 6, 7, 8, 9)]
    assert found[2].caption == samples[3]["txt"].decode()
    assert "left out of 11 samples: {'not an image': 1, 'no picture': 1, 'no caption': 1}" in caplog.text
    assert json.loads((out / "index.json").read_text())["count"] == 8
