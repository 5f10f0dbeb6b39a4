"""Shards of an evaluation: together they are the evaluation, and nothing else passes for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from configs.files import ConfigError
from configs.load import load_config
from configs.schema import EvaluateConfig
from eval.evaluate import evaluate_checkpoint
from eval.merge import is_shard, merge, shard_folder, shards_in
from eval.outcomes import read_outcomes
from eval.results import read_results

SETTINGS = (
    "tasks.digits.limit=20",
    "defenses={none: {}, random_noise: {}, clipure_cos_legacy: {name: clipure_cos, mode: legacy}}",
    "attacks={apgd: {steps: 3}}",
    "views=[transfer, adaptive]",
    "curve={}",
    "examples=2",
    "batch_size=4",
    "score_draws=2",
    "device=cpu",
)


def config(*overrides: str) -> EvaluateConfig:
    return load_config("evaluate", "digits", [*SETTINGS, *overrides])


def judge(out: Path, number: int, *overrides: str) -> Path:
    folder = shard_folder(out, number, 3)
    evaluate_checkpoint(config("model.name=tiny", *overrides), folder, shard=(number, 3))
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards")
    for number in (1, 2, 3):
        judge(out, number)
    return out


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    shutil.copytree(shards, tmp_path / "copy")
    return tmp_path / "copy"


def test_three_shards_are_the_whole(shards: Path, tmp_path: Path) -> None:
    evaluate_checkpoint(config("model.name=tiny"), tmp_path / "whole")
    joined = merge(shards_in(shards)[::-1], tmp_path / "joined")  # in any order
    one, other = (read_outcomes(folder / "outcomes-digits.json") for folder in (tmp_path / "whole", joined))
    assert one.keys == other.keys and len(set(one.keys)) == 20
    assert one.draws == other.draws
    rows, parts = (read_results(folder / "results.jsonl") for folder in (tmp_path / "whole", joined))
    assert [replace(row, seconds=0.0) for row in rows] == [replace(row, seconds=0.0) for row in parts]
    assert (joined / "examples.json").is_file() and (joined / "config.yaml").is_file()
    sizes = [len(read_outcomes(folder / "outcomes-digits.json").keys) for folder in shards_in(shards)]
    assert sizes == [6, 6, 8]  # neighbours that the legacy defence couples stay together


def test_a_shard_is_told_from_a_whole(shards: Path, tmp_path: Path) -> None:
    assert all(is_shard(folder) for folder in shards_in(shards))
    assert not is_shard(merge(shards_in(shards), tmp_path))


def test_a_missing_shard_is_named_with_the_command_that_makes_it(copied: Path, tmp_path: Path) -> None:
    shutil.rmtree(shard_folder(copied, 2, 3))
    with pytest.raises(ConfigError, match="images 7 to 12 are missing; run --shard 2/3"):
        merge(shards_in(copied), tmp_path / "joined")
    shutil.rmtree(shard_folder(copied, 3, 3))
    with pytest.raises(ConfigError, match="images 7 to 20 are missing; run --shard 2/3, --shard 3/3"):
        merge(shards_in(copied), tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_shard_that_is_there_twice_is_refused(copied: Path, tmp_path: Path) -> None:
    shutil.copytree(shard_folder(copied, 2, 3), copied / "again")
    with pytest.raises(ConfigError, match="images 7 to 12 again; leave one of them out"):
        merge([*shards_in(copied), copied / "again"], tmp_path / "joined")


def test_shards_of_another_config_are_refused(copied: Path, tmp_path: Path) -> None:
    shutil.rmtree(shard_folder(copied, 2, 3))
    judge(copied, 2, "seed=1")
    with pytest.raises(ConfigError, match="made with another config"):
        merge(shards_in(copied), tmp_path / "joined")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:100], "is damaged"),
        (lambda text: text.replace('"start": 6', '"start": 7'), "checksum does not fit"),
    ],
)
def test_a_damaged_shard_is_named(change: Callable[[str], str], said: str, copied: Path, tmp_path: Path) -> None:
    file = shard_folder(copied, 2, 3) / "outcomes-digits.json"
    changed = change(file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.raises(ConfigError, match=said) as caught:
        merge(shards_in(copied), tmp_path / "joined")
    assert str(file) in str(caught.value)


def test_an_unfinished_shard_is_named(copied: Path, tmp_path: Path) -> None:
    (shard_folder(copied, 2, 3) / "outcomes-digits.json").unlink()
    with pytest.raises(ConfigError, match="shard-2-of-3 holds no finished shard; start its command again"):
        merge(shards_in(copied), tmp_path / "joined")


def test_more_shards_than_images_and_shards_that_may_stop_early_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too few for 11 shards"):
        evaluate_checkpoint(config("model.name=tiny"), tmp_path / "a", shard=(1, 11))
    with pytest.raises(ConfigError, match="stops early .* cannot be split"):
        evaluate_checkpoint(config("model.name=tiny", "stop_width=0.1"), tmp_path / "b", shard=(1, 2))


def test_an_evaluation_stops_once_it_knows_enough(tmp_path: Path) -> None:
    found = evaluate_checkpoint(
        config("model.name=tiny", "defenses={none: {}}", "tasks.digits.limit=100", "stop_width=0.3", "batch_size=10"),
        tmp_path,
    )
    done = len(found.outcomes["digits"].keys)
    assert 10 <= done < 100
    assert any("stopped early" in note["title"] and f"{done} of 100" in note["text"] for note in found.notes)
    (worst,) = [row for row in found.results if row.attack == "worst"]
    assert worst.n == done and worst.high - worst.low <= 0.3
    header = json.loads((tmp_path / "outcomes-digits.json").read_text())
    assert header["total"] == done
