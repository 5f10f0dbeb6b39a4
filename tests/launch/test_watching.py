"""Checkpoints that are judged beside their training: as by it, each once, whatever happens to who judges them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from configs.files import ConfigError
from configs.load import load_config
from eval.evaluate import fingerprint, load_model
from eval.results import Result, read_results
from launch.evaluation import run_report
from launch.watching import run_watch
from tests.train.conftest import EVALUATION, SMALL
from tests.waiting import CEILING, wait_until
from train.finetune import finetune
from train.runs import open_run

ROOT = Path(__file__).parents[2]
STEPS = [2, 4]


def trained(out: Path, *overrides: str) -> Path:
    """The folder of a small training."""
    config = load_config("finetune", "fare_tiny_eps4", [*SMALL, "attack.steps=1", *overrides])
    finetune(open_run("small", config, out))
    return out


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipes") / "little.yaml"
    path.write_text(EVALUATION + "watch: 2\n")
    return str(path)


@pytest.fixture(scope="module")
def itself(tmp_path_factory: pytest.TempPathFactory, recipe: str) -> Path:
    """A training that judged its own checkpoints."""
    return trained(tmp_path_factory.mktemp("trainings") / "itself", f"evaluation={{recipe: {recipe}}}")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training, which judged nothing."""
    return trained(tmp_path_factory.mktemp("trainings") / "bare", "evaluation=null")


@pytest.fixture
def run(bare: Path, tmp_path: Path) -> Path:
    """A copy of that training."""
    return shutil.copytree(bare, tmp_path / "run")


def watch(run: Path, recipe: str | None, *overrides: str, once: bool = False) -> None:
    run_watch(run, recipe, overrides, once=once, poll=0.05, command="robustclip watch")


def numbers(run: Path) -> list[Result]:
    return [replace(row, seconds=0.0) for row in read_results(run / "results.jsonl")]


def said(run: Path, file: str) -> Any:
    return json.loads((run / file).read_text()) if (run / file).is_file() else None


def judged_steps(text: str) -> list[int]:
    return [int(line.split()[1].strip(":")) for line in text.splitlines() if ": judged in" in line]


def test_it_leaves_what_a_training_that_judges_itself_leaves_and_judges_nothing_twice(
    itself: Path, run: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(run, recipe)
    assert judged_steps(capsys.readouterr().out) == STEPS
    assert numbers(run) == numbers(itself) and {row.step for row in numbers(run)} == set(STEPS)
    for file in ("notes.json", "examples.json"):
        assert said(run, file) == said(itself, file)
    one, other = (load_file(place / "examples.safetensors") for place in (run, itself))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert {path.name for path in (run / "state").iterdir()} == {path.name for path in (itself / "state").iterdir()}
    assert not list(run.glob("watched/*/weights.ckpt"))
    assert (run / "report" / "index.html").is_file()
    before = (run / "results.jsonl").read_text()
    watch(run, recipe, once=True)
    assert judged_steps(capsys.readouterr().out) == []
    assert (run / "results.jsonl").read_text() == before


@pytest.mark.slow
def test_another_evaluation_has_its_own_place_and_the_report_finds_it(
    run: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(run, recipe)
    watch(run, recipe, "defenses={none: {}}")
    (other,) = (run / "evaluations").iterdir()
    assert other.name.startswith("little-")
    assert {row.defense for row in numbers(other)} == {"none"}
    assert {row.defense for row in numbers(run)} == {"none", "random_noise"}
    run_report([run], None)
    assert "report:" in capsys.readouterr().out


@pytest.mark.slow
def test_a_training_may_leave_its_own_evaluation_to_who_watches(
    itself: Path, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = f"evaluation={{recipe: {recipe}, elsewhere: true}}"
    run = trained(tmp_path / "run", own, "optimizer.max_steps=2", "optimizer.schedule=constant")
    assert not (run / "results.jsonl").exists()
    watch(run, None)
    assert [row.key for row in numbers(run)] == [row.key for row in numbers(itself) if row.step == 2]
    assert not (run / "evaluations").exists() and not (run / "evaluation.yaml").exists()


def test_damaged_foreign_and_broken_weights_are_passed_over(
    run: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    two, four = (run / "checkpoints" / f"step={step:06d}.ckpt" for step in STEPS)
    two.write_bytes(two.read_bytes()[: two.stat().st_size // 2])
    content = torch.load(four, weights_only=True)
    next(iter(content["state_dict"].values())).fill_(float("nan"))
    torch.save(content, four)
    shutil.copy(four, run / "checkpoints" / "step=000003.ckpt")  # saved on leaving; not one that is judged
    watch(run, recipe)
    told = capsys.readouterr().out
    assert "step 2: passed over" in told and "damaged, or not yet written" in told
    assert "step 4: passed over" in told and "not finite" in told and "step 3" not in told
    assert not (run / "results.jsonl").exists()


@pytest.mark.slow
def test_a_checkpoint_that_was_trained_anew_is_judged_anew_unless_it_is_the_same(
    run: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(run, recipe)
    two, four = (run / "checkpoints" / f"step={step:06d}.ckpt" for step in STEPS)
    os.utime(two)  # the same weights at another time
    before, state = numbers(run), {path.name for path in (run / "state").iterdir()}
    shutil.copy(two, four)
    capsys.readouterr()
    watch(run, recipe)
    assert judged_steps(capsys.readouterr().out) == STEPS
    assert [row for row in numbers(run) if row.step == 2] == [row for row in before if row.step == 2]
    assert len({path.name for path in (run / "state").iterdir()} - state) == 1  # step 4 with the weights of step 2
    watch(run, recipe)
    assert judged_steps(capsys.readouterr().out) == []
    four.write_bytes(four.read_bytes()[:1000])  # somebody copies a file to this place, slowly
    watch(run, recipe, once=True)
    assert "step 4: passed over" in capsys.readouterr().out
    shutil.copy(two, four)
    watch(run, recipe)
    assert judged_steps(capsys.readouterr().out) == [4]


@pytest.mark.parametrize(
    ("change", "recipe_", "line"),
    [
        (lambda run: shutil.rmtree(run), "checkpoint_tiny", "no training in .*run; name the folder"),
        (lambda run: (run / "config.yaml").write_text("seed: 0"), "checkpoint_tiny", "another kind of run"),
        (lambda run: None, None, "names no evaluation; name one, such as robustclip watch"),
        (lambda run: None, "chekpoint", "unknown evaluate recipe 'chekpoint'; choose one of: checkpoint"),
        (lambda run: None, "seed=1", "names no evaluation"),
    ],
)
def test_what_cannot_be_watched_is_told_in_a_line(
    change: Callable[[Path], object], recipe_: str | None, line: str, run: Path
) -> None:
    change(run)
    with pytest.raises(ConfigError, match=line) as caught:
        watch(run, recipe_)
    assert "\n" not in str(caught.value)


def test_a_training_that_judges_itself_is_not_judged_twice(itself: Path, tmp_path: Path) -> None:
    run = shutil.copytree(itself, tmp_path / "run")
    (run / "done").unlink()
    with pytest.raises(ConfigError, match="judges its checkpoints itself; train it with evaluation.elsewhere=true"):
        watch(run, None)


class TestProcesses:
    """Watchers that are processes of their own."""

    pytestmark = [pytest.mark.distributed, pytest.mark.slow]
    LONG = ("tasks.digits.limit=64", "attacks={pgd: {steps: 20, step_size: 0.01}}", "examples=0")

    def start(self, run: Path, *words: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "launch.cli", *words]
        return subprocess.Popen(
            command, cwd=run.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def watcher(self, run: Path, recipe: str, *overrides: str) -> subprocess.Popen[str]:
        return self.start(run, "watch", str(run), recipe, *overrides, "--poll", "0.1")

    def begun(self, run: Path) -> Path:
        """The first file of unfinished work, once there is one."""
        return wait_until(lambda: sorted(run.glob("state/step=000002-*/*.json")))[0]

    def test_two_at_once_share_the_checkpoints_of_a_running_training(
        self, itself: Path, recipe: str, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        settings = [*SMALL, "attack.steps=1", "evaluation=null", "trainer.keep=1", "--out", str(run)]
        training = self.start(run, "finetune", "fare_tiny_eps4", *settings)
        while not (run / "config.yaml").is_file():
            assert training.poll() is None
            time.sleep(0.02)
        watchers = [self.watcher(run, recipe) for _ in range(2)]
        told = [process.communicate(timeout=CEILING)[0] for process in (training, *watchers)]
        assert [process.returncode for process in (training, *watchers)] == [0, 0, 0], told
        steps = sorted(judged_steps(told[1]) + judged_steps(told[2]))
        assert 4 in steps and len(steps) == len(set(steps))  # retention may have been faster than both
        wanted = [row for row in numbers(itself) if row.step in steps]
        assert numbers(run) == wanted

    def test_another_one_finishes_the_work_of_one_that_was_killed(self, run: Path, recipe: str) -> None:
        killed = self.watcher(run, recipe, *self.LONG)
        first = self.begun(run)
        (run / "checkpoints" / "step=000002.ckpt").unlink()  # retention does not wait either
        killed.kill()
        killed.communicate()
        before = first.stat().st_mtime_ns if len(json.loads(first.read_text())["cells"]) == 4 else 0
        watch(run, recipe, *self.LONG)
        assert {row.step for row in numbers(run)} == set(STEPS) and {row.n for row in numbers(run)} == {64}
        assert before in (0, first.stat().st_mtime_ns)

    def test_one_that_is_told_to_end_ends_well_and_goes_on_later(self, run: Path, recipe: str) -> None:
        stopped = self.watcher(run, recipe, *self.LONG)
        self.begun(run)
        stopped.send_signal(signal.SIGTERM)
        told = stopped.communicate(timeout=CEILING)[0]
        assert stopped.returncode == 0 and "stopped by SIGTERM; the same command" in told, told
        again = self.watcher(run, recipe, *self.LONG)
        told = again.communicate(timeout=CEILING)[0]
        assert again.returncode == 0 and judged_steps(told) == STEPS, told

    def test_the_judged_weights_are_those_of_the_file(self, run: Path, recipe: str) -> None:
        watch(run, recipe)
        for step in STEPS:
            config = load_config("finetune", "fare_tiny_eps4").model
            file = replace(config, checkpoint=str(run / "checkpoints" / f"step={step:06d}.ckpt"))
            weights = said(run, f"watched/step={step:06d}/judged.json")["weights"]
            assert weights == fingerprint(load_model(file).image)
