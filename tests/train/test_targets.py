"""A training whose targets are read is the training that computes them, and no other targets are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from configs.files import ConfigError
from data.batches import ImageSample
from data.framing import Framing
from data.images import ShardImages
from data.make import make_from_sample
from data.sample import digits
from data.shard_index import IndexedShards
from data.source import ImageSource, SelectedImages
from data.target_parts import PartBatches, prepare, write_parts
from data.targeted import TargetedImages
from data.targets import Header, Targets
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIPEncoder
from modules.encoders.fingerprint import fingerprint
from modules.encoders.tiny import load_tiny
from tests.train.test_distributed import TWO, largest_difference, overrides, robustclip
from train.finetune import finetune
from train.runs import Run
from train.targets import TOLERANCE, CleanEmbeddings, compare, preparation_of

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests of this file keep the targets of the digits; the first one makes them."""
    return tmp_path_factory.mktemp("kept") / "targets"


STEADY = "optimizer.eps=1.0"  # as in test_distributed: two roundings stay together


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that original encoders compute from now on."""
    sizes: list[int] = []
    originals: list[CLIPEncoder] = []
    encode, freeze = CLIPEncoder.encode_image, CLIPEncoder.freeze

    def frozen(self: CLIPEncoder) -> CLIPEncoder:
        originals.append(self)
        return freeze(self)

    def watched(self: CLIPEncoder, x: torch.Tensor) -> torch.Tensor:
        if any(self is original for original in originals):
            sizes.append(len(x))
        return encode(self, x)

    monkeypatch.setattr(CLIPEncoder, "freeze", frozen)
    monkeypatch.setattr(CLIPEncoder, "encode_image", watched)
    return sizes


def test_a_training_with_kept_targets_has_the_weights_of_one_that_computes_them(
    run: Callable[..., Run], folder: Path, tmp_path: Path, counted: list[int]
) -> None:
    plain = load_file(finetune(run(STEADY, out=tmp_path / "plain")))
    assert counted == [8] * 4  # one forward a step, shared by the attack and the update
    counted.clear()
    kept = f"data.targets={folder}"
    first = load_file(finetune(run(kept, STEADY, out=tmp_path / "first")))
    assert largest_difference(plain, first) < 1e-5  # a target was computed at another place of another batch
    assert len(counted) == 1197 // 8 + 1 + 1  # each picture once (4 parts of 256 and one of 173), and a comparison
    counted.clear()
    again = load_file(finetune(run(kept, STEADY, out=tmp_path / "again")))
    assert same(first, again)
    assert counted == [8]  # the comparison alone


@pytest.mark.slow
def test_a_training_that_goes_on_finds_its_targets(run: Callable[..., Run], folder: Path, tmp_path: Path) -> None:
    kept = run(f"data.targets={folder}", "data.workers=2", out=tmp_path / "parts")
    whole = load_file(finetune(kept))
    for name in ("done", "checkpoints/step=000004.ckpt", "export/encoder.safetensors"):
        (kept.folder / name).unlink()
    assert same(whole, load_file(finetune(replace(kept, finished=False))))


@pytest.mark.slow
def test_a_part_that_was_removed_is_made_anew_and_alone(
    run: Callable[..., Run], folder: Path, counted: list[int]
) -> None:
    finetune(run(f"data.targets={folder}", "optimizer.max_steps=2"))
    part = folder / "00004.npy"
    before = part.read_bytes()
    part.unlink()
    counted.clear()
    finetune(run(f"data.targets={folder}", "optimizer.max_steps=2", "seed=1", out=folder.parent / "other"))
    assert part.read_bytes() == before
    assert len(counted) == 173 // 8 + 1 + 1


@pytest.mark.slow
def test_targets_of_another_model_are_refused_in_a_line(run: Callable[..., Run], folder: Path, tmp_path: Path) -> None:
    finetune(run(f"data.targets={folder}", "optimizer.max_steps=2"))
    checkpoint = tmp_path / "run" / "export" / "encoder.safetensors"
    with pytest.raises(ValueError, match="the targets in '.*' are of another encoder .*; name another folder") as told:
        finetune(run(f"data.targets={folder}", f"model.checkpoint={checkpoint}", out=tmp_path / "other"))
    assert "\n" not in str(told.value)


def test_tecoa_has_no_targets_and_says_so(recipe: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.targets: TeCoA never asks the original encoder") as told:
        recipe("data.targets=somewhere", of="tecoa_tiny_eps4")
    assert "\n" not in str(told.value)
    with pytest.raises(ConfigError, match=r"data\.targets is empty"):
        recipe("data.targets=' '")


def targeted(folder: Path, source: ImageSource, encoder: ImageEncoder, *, batch: int = 16) -> TargetedImages:
    """A source with targets that were made of what it gave then."""
    embed = CleanEmbeddings(encoder, batch)
    header = Header.of(
        source.keys, encoder=fingerprint(encoder), pictures=preparation_of(source), dim=encoder.embedding_dim
    )
    prepare(folder, header)
    parts = range(header.parts)
    read = ([source[i] for i in indices] for indices in PartBatches(header, parts, batch))
    found = (([s.key for s in read_], embed(torch.stack([s.x for s in read_])).numpy()) for read_ in read)
    list(write_parts(folder, header, parts, source.keys, found))
    whole = TargetedImages(source)
    whole.targets = Targets(folder, header, source.keys)
    return whole


class Flipped(ImageSource):
    """A source that mirrors a picture at every second look: an augmentation."""

    def __init__(self, source: ImageSource) -> None:
        super().__init__(name="flipped", keys=source.keys, classes=(), templates=())
        self.source, self.looks = source, 0

    def __getitem__(self, index: int) -> ImageSample:
        self.looks += 1
        sample = self.source[index]
        return replace(sample, x=sample.x.flip(-1)) if self.looks > len(self) and self.looks % 2 else sample


def test_pictures_that_change_whenever_they_are_read_are_refused(tmp_path: Path) -> None:
    encoder, few = load_tiny().image.freeze(), digits("train", 40)
    compare(targeted(tmp_path / "plain", few, encoder), CleanEmbeddings(encoder, 16), seed=3)
    source = targeted(tmp_path / "flipped", Flipped(few), encoder)
    with pytest.raises(ValueError, match="differs by .* or change whenever they are read; name another folder"):
        compare(source, CleanEmbeddings(encoder, 16), seed=3)


def test_other_batches_change_a_target_by_far_less_than_what_is_borne(tmp_path: Path) -> None:
    encoder, few = load_tiny().image.freeze(), digits("train", 64)
    whole = targeted(tmp_path / "targets", few, encoder)
    x = torch.stack([few[i].x for i in range(64)])
    targets = torch.stack([whole.targets[i] for i in range(64)])

    def farthest_and_nearest(x: torch.Tensor, batch: int) -> tuple[float, float]:
        z = torch.cat([CleanEmbeddings(encoder, batch)(part) for part in x.split(batch)])
        far = (z - targets).norm(dim=1) / targets.norm(dim=1)
        return float(far.max()), float(far.min())

    for batch in (5, 64):
        compare(whole, CleanEmbeddings(encoder, batch), seed=0)
        assert farthest_and_nearest(x, batch)[0] < TOLERANCE / 10
    assert farthest_and_nearest((x + 1 / 255).clamp(max=1), 64)[1] > 10 * TOLERANCE


def test_computing_targets_leaves_the_settings_of_torch_alone() -> None:
    encoder = load_tiny().image.freeze()
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    found = CleanEmbeddings(encoder, 4)(digits("train", 3)[0].x[None])
    assert found.shape == (1, 128) and found.dtype == torch.float32 and not found.requires_grad
    assert before == (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)


def test_what_is_done_to_pictures_is_told_apart(tmp_path: Path) -> None:
    make_from_sample("digits", tmp_path / "shards")
    shards = IndexedShards([str(tmp_path / "shards" / "tune" / "0.tar")])
    small, large = ShardImages(shards, 16), ShardImages(shards, Framing(16, resize=20))
    bilinear = ShardImages(shards, Framing(16, interpolation="bilinear"))
    squashed = ShardImages(shards, Framing(16, mode="squash"))
    told = {preparation_of(source) for source in (small, large, bilinear, squashed)}
    assert len(told) == 4
    assert preparation_of(SelectedImages(small, [1])) == preparation_of(small)


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_share_the_making_and_train_as_one(run: Callable[..., Run], tmp_path: Path) -> None:
    alone = load_file(finetune(run("optimizer.max_steps=2", "trainer.accumulate=2", "optimizer.eps=1.0")))
    told = overrides(*TWO, "evaluation=null", "data.targets=targets", "data.workers=1")
    ended = robustclip(tmp_path, "finetune", "fare_tiny_eps4", *told, "--out", str(tmp_path / "two"))
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "targets").glob("*.npy"))) == 5
    assert largest_difference(alone, load_file(tmp_path / "two" / "export" / "encoder.safetensors")) < 1e-5
    encoder, source = load_tiny().image.freeze(), digits("train")
    header = Header.of(source.keys, encoder=fingerprint(encoder), pictures="as they are", dim=128)
    targets = Targets(tmp_path / "targets", header, source.keys)
    x = torch.stack([source[i].x for i in range(0, 1197, 100)])
    with torch.no_grad():
        torch.testing.assert_close(torch.stack([targets[i] for i in range(0, 1197, 100)]), encoder.encode_image(x))
