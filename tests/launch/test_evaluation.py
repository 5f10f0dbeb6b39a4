"""Evaluations from the command line: whole, in shards, over ranks; the numbers are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from configs.files import ConfigError
from eval.results import Result, read_results
from launch.evaluation import run_evaluation, run_report, told_by
from tests.waiting import CEILING, free_port

SETTINGS = [
    "tasks.digits.limit=16",
    "defenses={none: {}, random_noise: {}}",
    "attacks={apgd: {steps: 3}}",
    "views=[transfer, eot]",
    "curve={}",
    "examples=1",
    "batch_size=4",
    "score_draws=2",
    "device=cpu",
]


def evaluate(out: Path | None, shard: str = "1/1") -> None:
    run_evaluation("tiny", "digits", SETTINGS, out, dry_run=False, command="robustclip evaluate", shard=shard)


def numbers(folder: Path) -> list[Result]:
    return [replace(row, seconds=0.0) for row in read_results(folder / "results.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluations") / "whole"
    evaluate(out)
    return out


def test_shards_are_joined_by_the_report(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (2, 1):
        evaluate(tmp_path / "parts", f"{number}/2")
        assert f"join the shards: robustclip report {tmp_path / 'parts'}" in capsys.readouterr().out
    run_report([tmp_path / "parts"], None)
    assert numbers(tmp_path / "parts") == numbers(whole)
    assert (tmp_path / "parts" / "report" / "index.html").is_file()


def test_shards_from_other_places_are_joined_too(whole: Path, tmp_path: Path) -> None:
    folders = []
    for number in (1, 2):
        evaluate(tmp_path / f"job {number}", f"{number}/2")
        folders.append(tmp_path / f"job {number}" / f"shard-{number}-of-2")
    run_report(folders[::-1], tmp_path / "page")
    assert numbers(tmp_path / "page" / "joined") == numbers(whole)


def test_a_name_is_told_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "fare 4.safetensors"
    file.touch()
    assert told_by("tiny", []) == ['model.name="tiny"']
    assert told_by("hf-hub:someone/fare.v2", []) == ['model.name="hf-hub:someone/fare.v2"']
    assert told_by(str(file), []) == [f'model.checkpoint="{file}"', 'encoder="fare 4"']
    assert told_by(str(file), ["encoder=Mine"]) == [f'model.checkpoint="{file}"']
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "open_clip_config.json").touch()
    hub = str(tmp_path / "hub")
    assert told_by(hub, []) == [f'model.name="local-dir:{hub}"', 'encoder="hub"']
    assert told_by(hub, ["model.name=tiny"]) == [f'model.checkpoint="{hub}"', 'encoder="hub"']
    assert told_by("timm/vit_tiny.x", []) == ['model.name="timm/vit_tiny.x"']
    with pytest.raises(ConfigError, match="no checkpoint at nowhere.pt"):
        told_by("nowhere.pt", [])


def test_two_models_are_refused_instead_of_one_being_ignored(tmp_path: Path) -> None:
    file = tmp_path / "fare.safetensors"
    file.touch()
    for word, key, other in (("tiny", "model.name", "ViT-B-32"), (str(file), "model.checkpoint", "other.pt")):
        with pytest.raises(ConfigError, match=f"{key}={other} name two models; leave one of them out"):
            told_by(word, [f"{key}={other}"])
    assert told_by("tiny", ["model.name=tiny"]) == ['model.name="tiny"']


@pytest.mark.parametrize(
    ("shard", "said"),
    [("0/3", "is no part"), ("4/3", "is no part"), ("x", "say 3/8"), ("1/3", "needs --out")],
)
def test_a_part_that_cannot_be_is_refused(shard: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        evaluate(None, shard)


def test_ranks_share_the_images_and_the_first_joins_them(whole: Path, tmp_path: Path) -> None:
    port = str(free_port())
    arguments = ["evaluate", "tiny", "digits", *SETTINGS, "--out", str(tmp_path / "ranks")]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", "from launch.cli import main; main()", *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=CEILING)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], told
    assert numbers(tmp_path / "ranks") == numbers(whole)
    assert "report:" in told[0] and "report:" not in told[1]
