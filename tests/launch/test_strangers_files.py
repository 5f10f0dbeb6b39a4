"""Nothing in a stranger's file runs, whichever way it comes in."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint.state_dict_saver as saver

from configs.load import load_config
from configs.schema import ModelConfig
from eval.evaluate import load_subject
from launch.consolidation import consolidate
from modules.encoders.clip import load_clip
from modules.prior.convert_source import read_source
from tests.modules.encoders.foreign import CONFIG, PIXELS
from tests.modules.evil import ATTACKS, plant
from train.finetune import finetune
from train.runs import open_run

Attack = Callable[[Path], Any]


def _checkpoint(path: Path, attack: Attack, mark: Path, suffix: str = ".pt") -> None:
    load_subject(ModelConfig("tiny", checkpoint=str(plant(path / f"evil{suffix}", attack, mark))))


def _old(path: Path, attack: Attack, mark: Path) -> None:
    torch.save({"state_dict": attack(mark)}, path / "evil.pt", _use_new_zipfile_serialization=False)
    load_subject(ModelConfig("tiny", checkpoint=str(path / "evil.pt")))


def _bare(path: Path, attack: Attack, mark: Path) -> None:
    (path / "evil.bin").write_bytes(pickle.dumps({"state_dict": attack(mark)}))
    load_subject(ModelConfig("tiny", checkpoint=str(path / "evil.bin")))


def _hub(path: Path, attack: Attack, mark: Path) -> None:
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": PIXELS}))
    plant(path / "open_clip_pytorch_model.bin", attack, mark)
    load_clip(f"local-dir:{path}")


def _hub_as_weights(path: Path, attack: Attack, mark: Path) -> None:
    (path / "config.json").write_text("{}")
    plant(path / "pytorch_model.bin", attack, mark)
    load_subject(ModelConfig("tiny", checkpoint=str(path)))


def _list_of_pieces(path: Path, attack: Attack, mark: Path) -> None:
    (path / ".metadata").write_bytes(pickle.dumps(attack(mark), 2))
    load_subject(ModelConfig("tiny", checkpoint=str(path)))


def _piece(path: Path, attack: Attack, mark: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saver.save({"visual.a": torch.ones(4, 400)}, checkpoint_id=path)
    buffer = io.BytesIO()
    torch.save(attack(mark), buffer)
    (path / "__0_0.distcp").write_bytes(buffer.getvalue())
    load_subject(ModelConfig("tiny", checkpoint=str(path)))


def _deepspeed(path: Path, attack: Attack, mark: Path) -> None:
    plant(path / "mp_rank_00_model_states.pt", attack, mark)
    load_subject(ModelConfig("tiny", checkpoint=str(path)))


def _timm(path: Path, attack: Attack, mark: Path) -> None:
    load_clip("timm/vit_tiny_patch16_224", str(plant(path / "evil.pth", attack, mark)))


def _consolidation(path: Path, attack: Attack, mark: Path) -> None:
    consolidate(plant(path / "evil.ckpt", attack, mark), path / "out.safetensors")


def _prior(path: Path, attack: Attack, mark: Path) -> None:
    read_source(plant(path / "evil.pth", attack, mark))


WAYS = [_checkpoint, _old, _bare, _hub, _hub_as_weights, _list_of_pieces, _piece, _deepspeed, _timm, _consolidation]


@pytest.mark.parametrize("way", [*WAYS, _prior])
def test_no_way_in_runs_any_of_ten_attacks(way: Callable[[Path, Attack, Path], None], tmp_path: Path) -> None:
    for number, (attack, _) in enumerate(ATTACKS):
        folder, mark = tmp_path / str(number), tmp_path / f"mark-{number}"
        folder.mkdir()
        with pytest.raises(ValueError, match=r"(refused|not loaded|cannot load|damaged|no list of contents)") as caught:
            way(folder, attack, mark)
        assert "\n" not in str(caught.value)
        assert not mark.exists()


def test_a_piece_outside_of_its_folder_is_not_read(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saver.save({"visual.a": torch.ones(4, 400)}, checkpoint_id=inside)
    (inside / "__0_0.distcp").rename(tmp_path / "x_0_0.distcp")
    listed = (inside / ".metadata").read_bytes()
    (inside / "filler").write_bytes(b"0" * 8000)
    changed = listed.replace(b"\x8c\x0c__0_0.distcp", b"\x8c\x0f../x_0_0.distcp")
    changed = changed.replace(b"X\x0c\x00\x00\x00__0_0.distcp", b"X\x0f\x00\x00\x00../x_0_0.distcp")
    assert changed != listed
    (inside / ".metadata").write_bytes(changed)
    with pytest.raises(ValueError, match="names a file outside of its folder"):
        load_subject(ModelConfig("tiny", checkpoint=str(inside)))


def test_a_list_that_asks_for_more_than_there_is_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saver.save({"visual.a": torch.ones(4, 400_000)}, checkpoint_id=tmp_path / "in")
    (tmp_path / "in" / "__0_0.distcp").write_bytes(b"short")
    with pytest.raises(ValueError, match="asks for tensors that the folder cannot hold"):
        load_subject(ModelConfig("tiny", checkpoint=str(tmp_path / "in")))


@pytest.mark.slow
def test_a_run_that_goes_on_runs_nothing_of_its_newest_checkpoint(tmp_path: Path) -> None:
    few = ["evaluation=null", "attack.steps=1", "optimizer.warmup_steps=1", "trainer.accelerator=cpu"]
    steps = ["optimizer.max_steps=2", "trainer.checkpoint_every=1", "data.batch_size=8"]
    config = load_config("finetune", "fare_tiny_eps4", [*few, *steps])
    finetune(open_run("fare", config, tmp_path / "run"))
    for number, (attack, _) in enumerate(ATTACKS):
        again, mark = tmp_path / f"again-{number}", tmp_path / f"mark-{number}"
        shutil.copytree(tmp_path / "run", again)
        (again / "done").unlink()
        plant(again / "checkpoints" / "step=000009.ckpt", attack, mark)
        with pytest.raises((ValueError, pickle.UnpicklingError)):
            finetune(open_run("fare", config, again))
        assert not mark.exists()
