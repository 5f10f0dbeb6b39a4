"""The lines that a training writes of itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data.batches import collate_images
from data.catalog import open_images
from data.plan import sample_indices
from eval.evaluate import load_model
from tests.train.stubs import NOTHING, FakeTrainer, walk
from train.finetune import build_module, finetune
from train.metrics import MetricsTable
from train.runs import open_run


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_first_the_last_and_every_so_many_steps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    walk(MetricsTable(path, every=4), FakeTrainer(10))
    assert [line["step"] for line in lines(path)] == ["1", "4", "8", "10"]
    assert lines(path)[1] == {"step": "4", "train/loss": "3.0", "lr": "0.25"}


@pytest.mark.parametrize("killed", [5, 6, 9])
def test_the_table_of_a_run_that_went_on_is_that_of_one_that_never_stopped(killed: int, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    walk(MetricsTable(whole, every=2), FakeTrainer(10), accumulate=2)
    walk(MetricsTable(parts, every=2), FakeTrainer(10), accumulate=2, to=killed)
    walk(MetricsTable(parts, every=2), FakeTrainer(10), start=4, accumulate=2)
    assert parts.read_text() == whole.read_text()


def test_a_fresh_run_drops_what_an_older_one_left(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,lr\n900,1.0,1.0\n")
    walk(MetricsTable(path, every=4), FakeTrainer(4))
    assert [line["step"] for line in lines(path)] == ["1", "4"]


def test_a_metric_that_comes_later_gets_a_column_and_blanks_before(tmp_path: Path) -> None:
    path, trainer = tmp_path / "metrics.csv", FakeTrainer(4)
    table: Any = MetricsTable(path, every=1)
    walk(table, trainer, to=1)
    trainer.global_step, trainer.callback_metrics = 2, {"train/loss": torch.tensor(1.0), "val/loss": torch.tensor(7.0)}
    table.on_train_batch_end(trainer, NOTHING, NOTHING, NOTHING, 1)
    assert [line["val/loss"] for line in lines(path)] == ["", "7.0"]


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    walk(MetricsTable(tmp_path / "metrics.csv", every=1), FakeTrainer(4, zero=False))
    assert list(tmp_path.iterdir()) == []


def test_an_aliased_number_stands_in_the_record_under_both_names(tmp_path: Path) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    table: Any = MetricsTable(tmp_path / "m.csv", every=1, tell=lambda step, values: told.append((step, dict(values))))
    trainer = FakeTrainer(1)
    table.on_train_start(trainer, NOTHING)
    trainer.global_step, trainer.callback_metrics = 1, {"train/cosine": torch.tensor(0.5)}
    table.on_train_batch_end(trainer, NOTHING, NOTHING, NOTHING, 0)
    values = {"train/cosine": 0.5, "lr": 0.25, "cos-sim": 0.5}
    record = json.loads((tmp_path / "m.jsonl").read_text())
    assert told == [(1, values)] and record == {"step": 1, "time": record["time"], **values}
    assert "cos-sim" not in (tmp_path / "m.csv").read_text()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, recipe: Any) -> Any:
    """(overrides) -> the folder of a small fine-tuning."""
    done: dict[tuple[str, ...], Path] = {}

    def trained(*words: str) -> Path:
        if words not in done:
            done[words] = tmp_path_factory.mktemp("watched") / "run"
            finetune(open_run("watched", recipe(*words), done[words]))
        return done[words]

    return trained


def test_a_watched_training_ends_with_the_same_bits(watched: Any) -> None:
    """Lines every step, and at the first and last step only."""
    every, seldom = watched("trainer.log_every=1"), watched("trainer.log_every=100")
    one, other = (load_file(run / "export" / "encoder.safetensors") for run in (every, seldom))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    often, rare = lines(every / "metrics.csv"), lines(seldom / "metrics.csv")
    assert [row["step"] for row in often] == ["1", "2", "3", "4"] and rare == [often[0], often[3]]


def test_what_hangs_on_the_machine_stands_apart_and_everything_in_the_record(watched: Any) -> None:
    run = watched("trainer.log_every=1")
    names = ["train/loss", "lr", "train/attack_gain", "train/cosine", "train/grad_norm"]
    assert list(lines(run / "metrics.csv")[0]) == ["step", *names]
    perf = lines(run / "perf.csv")
    speed = ["perf/images_per_s", "perf/data_wait_share", "perf/memory_gb", "perf/tflops"]
    assert list(perf[0]) == ["step", *speed], "no peak is known of a CPU"
    assert all(float(row["perf/images_per_s"]) > 0 and 0 <= float(row["perf/data_wait_share"]) <= 1 for row in perf)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert set(records[0]) == {"step", "time", "cos-sim", *names, *speed}
    for record, row, speeds in zip(records, lines(run / "metrics.csv"), perf, strict=True):
        assert all(record[name] == float(value) for name, value in {**row, **speeds}.items())


def test_the_norm_is_that_of_the_whole_step_before_it_is_clipped(watched: Any, recipe: Any) -> None:
    words = ("trainer.accumulate=2", "trainer.clip=0.001")
    told = float(lines(watched(*words) / "metrics.csv")[0]["train/grad_norm"])
    config = recipe(*words)
    clip, source = load_model(config.model), open_images("digits", "train", 32)
    module = build_module(config, clip, source)
    for number in range(2):
        keys = [source[i] for i in sample_indices(config.seed, 8 * number, 8, len(source))]
        batch = collate_images(keys)
        (module._outer(batch, module.perturb(batch, 0)).mean() / 2).backward()
    squares = [p.grad.double().square().sum() for p in module.encoder.parameters() if p.grad is not None]
    assert told == pytest.approx(torch.stack(squares).sum().sqrt().item(), rel=1e-5) and told > 0.01


@pytest.mark.slow
def test_a_peak_that_is_said_gives_a_share_of_it(watched: Any) -> None:
    rows = lines(watched("trainer.peak_tflops=2.0") / "perf.csv")
    assert all(float(row["perf/mfu"]) == pytest.approx(float(row["perf/tflops"]) / 2) for row in rows)
