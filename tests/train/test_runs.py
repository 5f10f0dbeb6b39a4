"""Where a run lives, and that it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from configs.files import ConfigError
from configs.load import load_config, to_yaml
from tests.data.holder import holder
from tests.train.stubs import checkpoint
from train.runs import Run, is_of, open_run

CONFIG = load_config("finetune", "fare_tiny_eps4")
OTHER = load_config("finetune", "fare_tiny_eps4", ["seed=1"])


def begun(run: Run) -> Run:
    """A run that has done something."""
    run.checkpoints.mkdir(parents=True)
    return run


def test_an_unfinished_run_with_the_same_config_goes_on_and_a_finished_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = begun(open_run("fare", CONFIG, None))
    assert first.folder.parent == Path("runs/fare")
    assert open_run("fare", CONFIG, None).folder == first.folder
    assert open_run("fare", OTHER, None).folder != first.folder
    first.finish({"finetune": 2.0})
    assert open_run("fare", CONFIG, first.folder).finished
    assert open_run("fare", CONFIG, None).folder != first.folder


def test_a_folder_with_another_config_or_other_files_is_refused(tmp_path: Path) -> None:
    begun(open_run("fare", CONFIG, tmp_path / "run"))
    with pytest.raises(ConfigError, match="holds a run with another config"):
        open_run("fare", OTHER, tmp_path / "run")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").touch()
    with pytest.raises(ConfigError, match="holds other files and no run"):
        open_run("fare", CONFIG, tmp_path / "photos")
    with pytest.raises(ConfigError, match="is a file"):
        open_run("fare", CONFIG, tmp_path / "photos" / "a.txt")


def test_the_refusal_of_another_config_says_what_differs(tmp_path: Path) -> None:
    folder = begun(open_run("fare", CONFIG, tmp_path / "run")).folder
    longer = load_config("finetune", "fare_tiny_eps4", ["optimizer.max_steps=500", "seed=1", "trainer.devices=8"])
    before = CONFIG.optimizer.max_steps
    line = rf"config \(optimizer\.max_steps: {before} before, 500 now; seed: 0 before, 1 now\); name a new folder"
    with pytest.raises(ConfigError, match=line):
        open_run("fare", longer, folder)


@pytest.mark.parametrize(
    "change",
    ["data.skip_bad=true", "data.max_bad=0.2", "trainer.keep=1", "trainer.keep_hours=2", "trainer.save_async=true"],
)
def test_a_run_that_a_bad_sample_or_a_full_disk_ended_goes_on_with_what_helps(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = begun(open_run("fare", CONFIG, tmp_path / "run")).folder
    run = open_run("fare", load_config("finetune", "fare_tiny_eps4", [change]), folder)
    assert run.folder == folder and not run.finished
    assert f"going on with {folder} ({change.partition('=')[0]}: " in capsys.readouterr().out
    assert is_of(folder, CONFIG)


def test_a_run_that_never_began_is_replaced(tmp_path: Path) -> None:
    open_run("fare", CONFIG, tmp_path / "run")
    assert not open_run("fare", OTHER, tmp_path / "run").finished
    assert "seed: 1" in (tmp_path / "run" / "config.yaml").read_text()


def test_the_newest_whole_checkpoint_is_found_and_damaged_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(open_run("fare", CONFIG, tmp_path / "run"))
    assert run.newest_checkpoint() is None
    for step in (5, 10, 15):
        torch.save(checkpoint(step), run.checkpoints / f"step={step:06d}.ckpt")
    newest = run.checkpoints / "step=000015.ckpt"
    assert run.newest_checkpoint() == newest
    newest.write_bytes(newest.read_bytes()[:100])
    assert run.newest_checkpoint() == run.checkpoints / "step=000010.ckpt"
    assert "step=000015.ckpt is damaged" in capsys.readouterr().out


def test_the_seconds_of_a_run_that_went_on_are_kept(tmp_path: Path) -> None:
    import json

    run = open_run("fare", CONFIG, tmp_path / "run", command="robustclip finetune fare")
    run.finish({"a": 5.0, "b": 1.0})
    run.finish({"a": 0.1, "c": 2.0})
    environment = json.loads((run.folder / "env.json").read_text())
    assert environment["phases"] == {"a": 5.0, "b": 1.0, "c": 2.0} and environment["seconds"] == 8.0
    assert environment["command"] == "robustclip finetune fare" and environment["versions"]["torch"]


def test_a_run_of_a_version_that_lacked_a_key_goes_on_with_the_keys_default(tmp_path: Path) -> None:
    file = begun(open_run("fare", CONFIG, tmp_path / "run")).folder / "config.yaml"
    older = file.read_text().replace("  log_every: 10\n", "")
    assert older != file.read_text()
    file.write_text(older)
    assert not open_run("fare", CONFIG, tmp_path / "run").finished
    with pytest.raises(ConfigError, match="holds a run with another config"):
        open_run("fare", load_config("finetune", "fare_tiny_eps4", ["trainer.log_every=3"]), tmp_path / "run")
    file.write_text("not: [a config")
    with pytest.raises(ConfigError, match="holds a run with another config"):
        open_run("fare", CONFIG, tmp_path / "run")


MOVED = ["trainer.devices=3", "trainer.strategy=fsdp2", "trainer.num_nodes=2", "data.workers=7"]


@pytest.mark.parametrize("key", MOVED)
def test_a_run_goes_on_wherever_it_is_computed(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = begun(open_run("fare", CONFIG, tmp_path / "run"))
    other = load_config("finetune", "fare_tiny_eps4", [key, "data.batch_size=66"])
    with pytest.raises(ConfigError, match="holds a run with another config"):
        open_run("fare", other, tmp_path / "run")
    moved = load_config("finetune", "fare_tiny_eps4", [key])
    assert not open_run("fare", moved, tmp_path / "run").finished and key.partition("=")[0] in capsys.readouterr().out
    assert (first.folder / "config.yaml").read_text() == to_yaml(moved)
    open_run("fare", moved, tmp_path / "run")
    assert capsys.readouterr().out == ""


def test_what_a_killed_process_was_writing_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".env.json.x1").touch()
    run = begun(open_run("fare", CONFIG, tmp_path / "run"))
    assert sorted(path.name for path in run.folder.iterdir()) == [".lock", "checkpoints", "config.yaml", "env.json"]
    left = [run.checkpoints / ".step=000002.ckpt.tmp", run.folder / ".metrics.csv.ab", run.folder / ".config.yaml.ab"]
    for path in left:
        path.touch()
    open_run("fare", CONFIG, tmp_path / "run")
    assert not [path for path in left if path.exists()]


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("train.runs.time.strftime", lambda *_: "now")
    monkeypatch.setattr(Path, "exists", lambda path: False)  # both have looked before either made its folder
    with holder(tmp_path / "runs" / "fare" / "now"):
        assert open_run("fare", OTHER, None).folder == Path("runs/fare/now-2")
