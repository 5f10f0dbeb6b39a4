"""All runs of a sweep are checked before any starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from configs.files import ConfigError
from launch import cli
from launch.sweep.axes import read_axes
from launch.sweep.expansion import expand
from launch.sweep.kinds import kind_of
from launch.sweep.planning import Planned, judges, plan_runs
from train.runs import open_run


def planned(kind: str, recipe: str, *words: str, out: Path = Path("sweep")) -> list[Planned]:
    return plan_runs(kind, recipe, expand(read_axes(words, kind)), out)


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ("fare_tiny_eps4", "finetune"),
        ("prior_tiny", "prior"),
        ("digits", "evaluate"),
        ("quick", "scorecard"),
    ],
)
def test_the_kind_of_a_recipe_is_that_of_its_folder(recipe: str, kind: str) -> None:
    assert kind_of(recipe) == kind


@pytest.mark.parametrize(
    ("text", "folder", "kind"),
    [
        ("objective: {name: fare}", "mine", "finetune"),
        ("network: {depth: 2}", "mine", "prior"),
        ("tasks: {}", "mine", "evaluate"),
        ("probes: 4", "mine", "scorecard"),
        ("model: {name: tiny}", "scorecard", "scorecard"),
    ],
)
def test_a_file_is_known_by_what_it_says_or_by_its_folder(tmp_path: Path, text: str, folder: str, kind: str) -> None:
    (tmp_path / folder).mkdir()
    file = tmp_path / folder / "x.yaml"
    file.write_text(text)
    assert kind_of(str(file)) == kind


def test_where_the_kind_is_not_clear_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("model: {name: tiny}")
    with pytest.raises(ConfigError, match="say --kind"):
        kind_of(str(tmp_path / "x.yaml"))
    assert kind_of(str(tmp_path / "x.yaml"), "evaluate") == "evaluate"
    with pytest.raises(ConfigError, match="choose one of: finetune"):
        kind_of("x", "tune")
    with pytest.raises(ConfigError, match="fare_tiny_eps4"):
        kind_of("fare_tiny")


def test_faults_of_several_runs_are_told_together_with_their_names() -> None:
    with pytest.raises(ConfigError) as told:
        planned("finetune", "fare_tiny_eps4", "objective.name=fare,fari", "trainer.accumulate=1,0", "epss=1")
    lines = str(told.value).splitlines()
    assert len(lines) == 3
    assert any(line.startswith("every run: epss") for line in lines)
    assert any(line.startswith("objective=fari,accumulate=1; objective=fari,accumulate=0: obj") for line in lines)
    assert any("objective=fare,accumulate=0; objective=fari,accumulate=0: trainer.accumulate is 0" in s for s in lines)


def test_two_runs_that_come_to_the_same_are_refused() -> None:
    with pytest.raises(ConfigError, match="lr=1e-4 and lr=0.0001 are the same run"):
        planned("finetune", "fare_tiny_eps4", "lr=1e-4,0.0001,1e-3", "evaluation=null")


def test_a_fine_tuning_is_judged_image_by_image_and_a_prior_is_not() -> None:
    runs = planned("finetune", "fare_tiny_eps4", "eps=2,4", out=Path("s"))
    assert [stage.kind for stage in runs[0].stages] == ["finetune", "evaluate"]
    assert runs[0].results == Path("s/eps=2/judged")
    assert len(judges(runs)) == 1  # the ball that is judged is the evaluation's, not the training's
    assert len(planned("finetune", "fare_tiny_eps4", "eps=2,4", "evaluation=null")[0].stages) == 1
    assert [s.kind for s in planned("prior", "prior_tiny", "seed=0,1", "data.shards=x")[0].stages] == ["prior"]


def test_a_scorecard_of_the_embedded_model_knows_its_data() -> None:
    runs = planned("scorecard", "quick", "model.name=tiny", "defense.name=none,ttc")
    assert runs[1].config.data.shards == "digits" and runs[1].config.encoder == "defense=ttc"
    assert runs[1].stages[0].words[-2:] == ("--budget", "quick")


def test_a_folder_of_another_run_is_refused_before_anything_starts(tmp_path: Path) -> None:
    run = planned("finetune", "fare_tiny_eps4", "eps=2,4", "evaluation=null", out=tmp_path)[0]
    open_run("x", run.config, tmp_path / run.name)
    planned("finetune", "fare_tiny_eps4", "eps=2,4", "evaluation=null", out=tmp_path)
    with pytest.raises(ConfigError, match="eps=2: .*holds a run with another config"):
        planned("finetune", "fare_tiny_eps4", "eps=2,4", "evaluation=null", "lr=1", out=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing_like_it", "seed=0,1"], "no recipe"),
        (["fare_tiny_eps4"], "nothing is swept"),
        (["fare_tiny_eps4", "seed=0,1", "--jobs", "0"], "--jobs 0"),
        (["fare_tiny_eps4", "seed=0,1", "--launch", "cloud"], "--launch cloud"),
        (["fare_tiny_eps4", "seed=0,1", "--nodes", "2"], "--launch slurm"),
        (["fare_tiny_eps4", "seed=0,1", "--gpus", "7"], "cannot share"),
        (["fare_tiny_eps4", "seed=0,1", "--against", "seed=2"], "say first, best or"),
        (["fare_tiny_eps4", "seed=0,1", "--out", "there"], "holds other files and no sweep"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["robustclip", "sweep", *arguments])
    with pytest.raises(SystemExit) as leave:
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert leave.value.code == 2 and len(lines) == 1 and told in lines[0], lines
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_the_scripts_of_a_queue_are_one_job_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fare_tiny_eps4", "eps=2,4", "evaluation=null", "--launch", "slurm", "--gpus", "2", "--nodes", "2"]
    words += ["--sbatch", "time=8:00:00", "--dry-run", "--out", "s"]
    monkeypatch.setattr(sys, "argv", ["robustclip", "sweep", *words])
    cli.main()
    shown = capsys.readouterr().out
    assert shown.count("#!/bin/bash") == 2 and shown.count("#SBATCH --time=8:00:00") == 2
    assert "#SBATCH --nodes=2" in shown and "trainer.devices=2 trainer.num_nodes=2 --out" in shown
    assert not (tmp_path / "s").exists()
