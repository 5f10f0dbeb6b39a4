"""``robustclip watch``: the checkpoints of a training are judged by other processes than those that train."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from configs.evaluation import evaluation_config, judged_while_training
from configs.family import put
from configs.files import ConfigError
from configs.load import check_config, config_hash, plain, read_recipe, same_config, to_yaml
from configs.overrides import parse_overrides
from configs.schema import EvaluateConfig, FinetuneConfig
from configs.yaml_file import read_yaml

if TYPE_CHECKING:
    from eval.watching import Watcher

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def run_watch(
    run: Path, recipe: str | None, overrides: Sequence[str], *, once: bool, poll: float, command: str
) -> None:
    """Judge every checkpoint of a training once; comes back when it has ended and all are judged.

    Args:
        run: folder of the training.
        recipe: of the evaluation; the training's own by default.
        overrides: ``a.b=c`` of the evaluation.
        once: judge what is there and come back.
        poll: seconds between two looks.
        command: for the record.

    Raises:
        ConfigError: there is no such training, or every fault of the evaluation.
        SystemExit: with code 0, a signal said that this process ends.
    """
    if poll <= 0:
        raise ConfigError(f"--poll {poll:g} is no time to wait; say some seconds")
    training = training_of(run)
    if recipe is not None and "=" in recipe:
        recipe, overrides = None, [recipe, *overrides]
    evaluation = evaluation_of(run, training, recipe, overrides)
    if not once and not (run / "done").is_file() and _judges_the_same(training, evaluation):
        raise ConfigError(
            f"{run} judges its checkpoints itself; train it with evaluation.elsewhere=true, or say --once if it has "
            "stopped, or name another recipe"
        )
    out = place_of(run, training, evaluation, Path(recipe).stem if recipe else "own", command)
    print(f"watching {run}; results: {out}", flush=True)
    with _until_told():
        watcher = _watcher(run, out, training, evaluation)
        _watch(watcher, run, once, poll)
    if (out / "results.jsonl").is_file():
        from launch.evaluation import show_results

        show_results(out)


def training_of(run: Path) -> FinetuneConfig:
    """The recipe of a training whose checkpoints can be judged.

    Raises:
        ConfigError: the folder holds none.
    """
    file = run / "config.yaml"
    try:
        said = read_yaml(file)
    except ConfigError as error:
        raise ConfigError(f"no training in {run}; name the folder of a run of robustclip finetune") from error
    if not isinstance(said, dict) or "objective" not in said or "evaluation" not in said:
        raise ConfigError(f"{run} holds another kind of run; only those of robustclip finetune can be watched")
    return check_config("finetune", said)


def evaluation_of(run: Path, training: FinetuneConfig, recipe: str | None, overrides: Sequence[str]) -> EvaluateConfig:
    """What each checkpoint is put through.

    Raises:
        ConfigError: no recipe is named anywhere, or every fault of what results.
    """
    own = _own(training)
    if recipe is None and own is None:
        raise ConfigError(f"{run} names no evaluation; name one, such as robustclip watch {run} checkpoint")
    said = read_recipe("evaluate", recipe) if recipe is not None else plain(own)
    for path, value in parse_overrides("evaluate", said, overrides):
        put(said, path, value)
    return check_config("evaluate", {**said, "model": plain(training.model)})


def _own(training: FinetuneConfig) -> EvaluateConfig | None:
    if training.evaluation is None:
        return None
    return evaluation_config(training.evaluation, model=plain(training.model))


def _judges_the_same(training: FinetuneConfig, evaluation: EvaluateConfig) -> bool:
    return judged_while_training(training.evaluation) and _own(training) == evaluation


def place_of(run: Path, training: FinetuneConfig, evaluation: EvaluateConfig, name: str, command: str) -> Path:
    """Where the results go: to the run itself, or, where those there are of another evaluation, to a folder in it.

    Args:
        run: folder of the training.
        training: its recipe.
        evaluation: what its checkpoints are put through.
        name: of the evaluation's recipe.
        command: for the record.
    """
    from eval.claims import created
    from eval.evaluate import write_run

    own = _own(training)
    if own is None:  # then the first evaluation that is named is the run's own
        file = run / "evaluation.yaml"
        if created(file, to_yaml(evaluation)) or same_config(file, evaluation):
            return run
    elif own == evaluation:
        return run
    out = run / "evaluations" / f"{name}-{config_hash(plain(evaluation))[:6]}"
    if not (out / "config.yaml").is_file():
        write_run(out, evaluation, seed=evaluation.seed, command=command)
    return out


def _watcher(run: Path, out: Path, training: FinetuneConfig, evaluation: EvaluateConfig) -> Watcher:
    from eval.evaluate import load_model
    from eval.plan import build_plan
    from eval.watching import Watcher

    clip = load_model(training.model)
    return Watcher(
        checkpoints=run / "checkpoints",
        out=out,
        plan=build_plan(evaluation, clip),
        encoder=clip.image,
        name=training.encoder,
        every=training.trainer.checkpoint_every,
        last=training.optimizer.max_steps,
        say=lambda line: print(line, flush=True),
    )


def _watch(watcher: Watcher, run: Path, once: bool, poll: float) -> None:
    from eval.findings import assemble

    assemble(watcher.out, watcher.name)  # who was killed may have judged a checkpoint and not come to this
    while True:
        over = (run / "done").is_file()  # asked first: nothing is saved after it
        if watcher.judge_next() is None:
            if once or (over and not watcher.pending()):
                return
            _wait(f"waiting for the next checkpoint of {run}; {len(watcher.judged)} judged here", poll)


def _wait(line: str, seconds: float) -> None:
    """Sleep, and say why where somebody is looking."""
    if not sys.stderr.isatty():
        time.sleep(seconds)
        return
    from rich.markup import escape

    from data.terminal import terminal

    with terminal(stderr=True).status(escape(line)):
        time.sleep(seconds)


@contextmanager
def _until_told() -> Iterator[None]:
    """SIGTERM and SIGUSR1 end the process with code 0; what is half done, anybody goes on with.

    Raises:
        SystemExit: one of them came.
    """
    before: dict[int, Any] = {}

    def leave(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1 and callable(before[number]):
            before[number](number, frame)  # may ask a queue for another turn
        name = signal.Signals(number).name
        print(f"stopped by {name}; the same command, here or elsewhere, goes on from there", flush=True)
        raise SystemExit(0)

    before |= {number: signal.signal(number, leave) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
