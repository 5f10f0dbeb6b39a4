"""Embed, train a prior, and use it: the road to CLIPure-Diff."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from configs.files import ConfigError
from configs.load import load_config
from data.embeddings import EmbeddingShards
from eval.evaluate import fingerprint
from modules.encoders.tiny import load_tiny
from modules.lightning.prior_training import PriorTraining
from modules.prior.storage import load_prior, prior_metadata
from train.embed import embed
from train.prior import train_prior
from train.runs import open_run

SMALL = (
    "optimizer.max_steps=6",
    "optimizer.warmup_steps=1",
    "data.batch_size=16",
    "data.validation=20",
    "validation.every=4",
    "validation.sample_steps=4",
    "validation.bins=2",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
)
Train = Callable[..., Path]


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("embed") / "embeddings"
    return embed(load_config("embed", "tiny", ["data.split=tune"]), out)


@pytest.fixture(scope="session")
def captions_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("embed") / "captions"
    return embed(load_config("embed", "tiny", ["data.split=tune", "text=caption"]), out)


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """(overrides) -> the folder of a small prior's run."""

    def trained(*overrides: str, recipe: str = "prior_tiny", out: str = "run") -> Path:
        train_prior(open_run("prior", load_config("prior", recipe, [*SMALL, *overrides]), tmp_path / out))
        return tmp_path / out

    return trained


def column(run: Path, name: str) -> dict[int, float]:
    """The numbers of a column of the metrics by step."""
    with (run / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row.get(name)}


def exported(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "export" / "prior.safetensors")


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


def test_existing_embeddings_are_not_written_over(shards: Path) -> None:
    with pytest.raises(ValueError, match="exists and is not empty"):
        embed(load_config("embed", "tiny", ["data.split=tune"]), shards)


def test_a_prior_is_trained_on_them_and_remembers_where_it_comes_from(shards: Path, train: Train) -> None:
    run = train(f"data.shards={shards}", "optimizer.max_steps=25", "data.batch_size=32")
    losses = list(column(run, "train/loss").values())
    assert sum(losses[-5:]) < sum(losses[:5])
    assert load_prior(run / "export").embedding_dim == 128
    said = prior_metadata(run / "export")
    assert said["encoder"] == EmbeddingShards(shards).metadata["encoder"] == fingerprint(load_tiny().image)
    assert said["base"] == {"name": "tiny", "pretrained": ""}
    assert (said["steps"], said["samples_seen"], said["dim"]) == (25, 25 * 32, 128)
    assert (said["data"]["pairs"], said["data"]["held_out"], said["data"]["computed"]) == (280, 20, [])
    assert said["validation"]["val/loss"] == column(run, "val/loss")[25]
    assert said["likelihood"]["n"] == 20 and said["likelihood"]["mean"] < 0 < said["likelihood"]["std"]


def test_validation_comes_before_the_first_step_now_and_then_and_after_the_last(shards: Path, train: Train) -> None:
    run = train(f"data.shards={shards}", "trainer.accumulate=2")
    assert list(column(run, "val/loss")) == [0, 4, 6] == list(column(run, "val/loss_live"))
    assert list(column(run, "train/loss")) == [1, 2, 3, 4, 5, 6]
    names = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert names[:4] == ["step", "train/loss", "lr", "train/grad_norm"] and len(names) == 4 + 9
    untrained = column(run, "val/loss")[0]
    assert column(run, "val/loss_live")[0] == pytest.approx(untrained, rel=1e-6) and untrained > 1


@pytest.mark.slow
def test_the_batch_of_the_validation_moves_no_number(shards: Path, train: Train) -> None:
    runs = [train(f"data.shards={shards}", f"validation.batch_size={size}", out=str(size)) for size in (7, 20)]
    for name in ("val/loss", "val/loss_live", "val/similarity_image", "val/baseline", "val/denoising/0050-0099"):
        one, other = (column(run, name) for run in runs)
        assert one == pytest.approx(other, rel=1e-4), name
    one, other = (exported(run) for run in runs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_is_held_out_is_never_trained_on(shards: Path, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[str]] = {"training_step": set(), "validation_step": set()}

    def watched(step: str, original: Any) -> Any:
        def watching(self: Any, batch: Any, batch_idx: int) -> Any:
            seen[step].update(batch.key)
            return original(self, batch, batch_idx)

        return watching

    for step in seen:
        monkeypatch.setattr(PriorTraining, step, watched(step, getattr(PriorTraining, step)))
    train(f"data.shards={shards}", "optimizer.max_steps=12", "data.batch_size=48")  # 576 samples: all of 280 twice
    assert len(seen["validation_step"]) == 20 and len(seen["training_step"]) == 280
    assert not seen["training_step"] & seen["validation_step"]


@pytest.mark.slow
def test_what_is_not_stored_is_computed_while_training(shards: Path, captions_only: Path, train: Train) -> None:
    """Stored, from captions, or from pictures: the same samples meet the same noise, and the loss is the same."""
    stored = train(f"data.shards={shards}", out="stored")
    captions = train(f"data.shards={captions_only}", out="captions")
    images = train("data.shards=digits", "data.split=tune", out="images")
    for name in ("train/loss", "val/loss", "val/similarity_image", "val/similarity_text"):
        for run in (captions, images):
            assert column(run, name) == pytest.approx(column(stored, name), rel=0.02, abs=0.002), name
    assert prior_metadata(captions / "export")["data"]["computed"] == ["token states"]
    said = prior_metadata(images / "export")
    assert said["data"]["computed"] == ["image embeddings", "text embeddings", "token states"]
    assert said["encoder"] == prior_metadata(stored / "export")["encoder"]


def test_a_parquet_npy_folder_is_trained_on_and_belongs_to_whom_the_user_says(
    captions_only: Path, train: Train, tmp_path: Path
) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = EmbeddingShards(captions_only)
    samples = [source[i] for i in range(60)]
    for folder in ("img_emb", "metadata"):
        (tmp_path / "laion" / folder).mkdir(parents=True)
    image = torch.stack([sample.image for sample in samples]).numpy().astype(np.float16)
    np.save(tmp_path / "laion" / "img_emb" / "img_emb_0000.npy", image)
    columns = {"caption": [sample.caption for sample in samples], "key": [sample.key for sample in samples]}
    pq.write_table(pa.table(columns), tmp_path / "laion" / "metadata" / "metadata_0000.parquet")

    told = (f"data.shards={tmp_path / 'laion'}", "optimizer.max_steps=2")
    unknown = prior_metadata(train(*told) / "export")
    assert unknown["encoder"] is None and unknown["data"]["computed"] == ["text embeddings", "token states"]
    known = prior_metadata(train(*told, "data.same_encoder=true", out="known") / "export")
    assert known["encoder"] == source.metadata["encoder"]


@pytest.mark.slow
def test_pictures_are_seen_through_a_fine_tuned_tower(train: Train, tmp_path: Path) -> None:
    from modules.checkpoint import save_tower

    clip = load_tiny()
    with torch.no_grad():
        next(clip.image.visual.parameters()).mul_(1.1)
    tower = save_tower(clip.image.visual, tmp_path / "encoder.safetensors", base={"name": "tiny", "pretrained": ""})
    run = train(
        "data.shards=digits",
        "data.split=tune",
        "optimizer.max_steps=1",
        "optimizer.warmup_steps=0",
        f"model.checkpoint={tower}",
    )
    said = prior_metadata(run / "export")
    assert said["encoder"] == fingerprint(clip.image) != fingerprint(load_tiny().image)
    assert said["checkpoint"] == str(tower)


def test_token_states_can_be_left_out_of_the_condition(shards: Path, train: Train) -> None:
    without = train(f"data.shards={shards}", "data.tokens=false", out="without")
    assert column(without, "train/loss") != column(train(f"data.shards={shards}"), "train/loss")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["model=null"],
            "does not hold token states, .* computed while training: name the CLIP, such as model.name=tiny$",
        ),
        (
            ["model.name=ViT-B-32", "model.pretrained=openai"],
            "was embedded by another model than ViT-B-32; say model.name=tiny$",
        ),
        (["data.validation=digits"], "must both hold images, or both embeddings"),
        (
            ["model=null", "data.shards=digits"],
            "digits is no folder of embeddings; to learn from pictures, name the CLIP",
        ),
        (["data.validation=300"], "cannot hold 300 of 300 samples out"),
        (["network.depth=1", "init=nothing.safetensors"], "nothing.safetensors: no such prior"),
    ],
)
def test_faults_are_told_in_a_line_that_names_the_remedy(
    overrides: list[str], told: str, captions_only: Path, train: Train
) -> None:
    with pytest.raises(ValueError, match=told):
        train(f"data.shards={captions_only}", *overrides)


@pytest.mark.slow
def test_other_pairs_can_be_held_out_if_they_are_of_the_same_encoder(
    shards: Path, captions_only: Path, train: Train, tmp_path: Path
) -> None:
    run = train(f"data.shards={shards}", f"data.validation={captions_only}")
    said = prior_metadata(run / "export")["data"]
    assert (said["pairs"], said["held_out"], said["validation"]) == (300, 300, str(captions_only))
    from data.batches import collate_embeddings
    from data.embeddings import write_embeddings

    source = EmbeddingShards(shards)
    other = tmp_path / "other"
    write_embeddings(other, iter([collate_embeddings([source[i] for i in range(10)])]), {"encoder": "f00"})
    with pytest.raises(ConfigError, match="was made by encoder f00"):
        train(f"data.shards={shards}", f"data.validation={other}", out="second")


def test_a_prior_goes_on_from_a_file(shards: Path, train: Train) -> None:
    first = train(f"data.shards={shards}", "optimizer.max_steps=30", out="first")
    init = first / "export" / "prior.safetensors"
    second = train(f"data.shards={shards}", f"init={init}", recipe="prior_tiny_adapt", out="second")
    assert column(second, "val/loss")[0] == pytest.approx(column(first, "val/loss")[30], rel=1e-6)
    assert column(second, "val/loss")[6] < column(second, "val/loss")[0]
    assert load_prior(second / "export").config() == load_prior(init).config()
    assert prior_metadata(second / "export")["init"] == str(init)


def test_a_recipe_that_contradicts_the_file_is_told_every_key(shards: Path, train: Train) -> None:
    first = train(f"data.shards={shards}", "optimizer.max_steps=2", out="first")
    init = first / "export" / "prior.safetensors"
    with pytest.raises(ConfigError) as caught:
        train(f"data.shards={shards}", f"init={init}", "network.depth=3", "diffusion.timesteps=50", out="second")
    assert [line.partition("; ")[0] for line in str(caught.value).splitlines()] == [
        f"network.depth is 3 but 2 in {init}",
        f"diffusion.timesteps is 50 but 100 in {init}",
    ]
    assert "leave out 'network' to take the file's" in str(caught.value)


@pytest.mark.parametrize(
    ("step", "settings"), [(0, ()), (3, ()), (4, ()), (5, ("trainer.accumulate=2",)), (5, ("network.ff_dropout=0.1",))]
)
def test_a_stopped_run_ends_with_the_same_bits_and_the_same_table(
    step: int, settings: tuple[str, ...], shards: Path, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(f"data.shards={shards}", *settings, out="whole")
    original = PriorTraining.training_step

    def stumbling(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == step:
            raise RuntimeError("the power failed")
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(PriorTraining, "training_step", stumbling)
        with pytest.raises(RuntimeError, match="the power failed"):
            train(f"data.shards={shards}", *settings, out="parts")
    parts = train(f"data.shards={shards}", *settings, out="parts")
    assert (parts / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    one, other = exported(whole), exported(parts)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_without_held_out_pairs_nothing_is_validated(shards: Path, train: Train) -> None:
    run = train(f"data.shards={shards}", "data.validation=0")
    assert column(run, "val/loss") == {} and prior_metadata(run / "export")["validation"] == {}
    assert prior_metadata(run / "export")["likelihood"]["n"] == 300
