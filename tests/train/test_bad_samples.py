"""A training counts what is bad over all its processes, ends where it is too much, and says how much it was."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from configs.files import ConfigError
from data.framing import Framing
from data.shards import write_shards
from tests.train.test_distributed import TWO, robustclip
from train.datamodules import training_images
from train.finetune import finetune
from train.runs import Run

N = 64


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """64 pictures, of which 3 and 40 cannot be decoded."""
    samples = []
    for i in range(N):
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
        content = file.getvalue()[:70] if i in (3, 40) else file.getvalue()
        samples.append({"__key__": f"s{i}", "png": content, "cls": str(i % 2)})
    write_shards(tmp_path / "set" / "train", samples, per_shard=16)
    (tmp_path / "set" / "classnames.txt").write_text("one\ntwo\n")
    return str(tmp_path / "set")


def settings(shards: str, max_bad: float, steps: int = 8) -> list[str]:
    told = [f"data.shards={shards}", "data.skip_bad=true", f"data.max_bad={max_bad}"]
    return [*told, f"optimizer.max_steps={steps}", "optimizer.warmup_steps=1"]


def test_the_end_says_how_many_were_bad_and_checkpoints_keep_it(run: Callable[..., Run], broken: str) -> None:
    whole = run(*settings(broken, 0.1))
    finetune(whole)
    counts = json.loads((whole.folder / "bad_samples.json").read_text())
    assert counts == {"samples": N, "bad": {"undecodable": 2}, "lost": 0, "refused": {}}
    newest = whole.newest_checkpoint()
    assert newest is not None
    kept = torch.load(newest, weights_only=True)["callbacks"]["CountBadSamples"]
    assert sorted(kept["samples"]) == [3, 40] and len(set(kept["reasons"])) == 1


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_count_together(broken: str, tmp_path: Path) -> None:
    """One bad sample each is allowed to none of them alone, and both together are too much."""
    from tests.train.conftest import SMALL

    common = [*SMALL, "attack.steps=1", "evaluation=null", *TWO]
    out = tmp_path / "two"
    ended = robustclip(tmp_path, "finetune", "fare_tiny_eps4", *common, *settings(broken, 0.1), "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    counts = json.loads((out / "bad_samples.json").read_text())
    assert counts["bad"] == {"undecodable": 2} and ended.stderr.count("bad data, in all processes together") == 1
    ended = robustclip(
        tmp_path, "finetune", "fare_tiny_eps4", *common, *settings(broken, 0.02), "--out", str(tmp_path / "stops")
    )
    assert ended.returncode != 0
    assert "2 of 64 images of 'set' are bad (2 undecodable), more than data.max_bad = 0.02 allows" in ended.stderr


@pytest.mark.slow
def test_a_stream_trains_without_indexes_and_counts_what_it_passes_over(run: Callable[..., Run], broken: str) -> None:
    streamed = run(*settings(broken, 0.1), "data.stream=true", "data.buffer=16", "data.workers=1")
    finetune(streamed)
    counts = json.loads((streamed.folder / "bad_samples.json").read_text())
    assert counts["bad"]["undecodable"] >= 2 and counts["samples"] >= 64
    assert not list(Path(broken).rglob("*.index"))


@pytest.mark.slow
def test_a_stream_that_was_stopped_ends_with_the_same_weights(
    run: Callable[..., Run], broken: str, tmp_path: Path
) -> None:
    told = [*settings(broken, 0.1), "data.stream=true", "data.buffer=16", "data.workers=2"]
    whole = finetune(run(*told, out=tmp_path / "whole"))
    half = run(*told, out=tmp_path / "half")
    shutil.copytree(tmp_path / "whole" / "checkpoints", half.checkpoints, dirs_exist_ok=True)
    for late in half.checkpoints.glob("step=00000[68]*"):
        late.unlink() if late.is_file() else shutil.rmtree(late)
    assert half.newest_checkpoint() is not None
    again = finetune(run(*told, out=tmp_path / "half"))
    one, other = load_file(whole), load_file(again)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_targets_and_streams_do_not_go_together(run: Callable[..., Run], broken: str) -> None:
    with pytest.raises(ConfigError, match=r"^data.targets names each image by its number"):
        training_images(run(*settings(broken, 0.1), "data.stream=true", "data.targets=t").config.data, Framing(32))
