"""The command line: ``robustclip``.  Heavy libraries are imported by the commands, never by ``--help``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from data.folder_lock import release_all
from data.parent import STARTED_BY, end_with_parent
from launch.commands import judging, perceiving, robustifying, sweeping, training
from launch.commands.data import data_app
from launch.commands.selftest import selftest_app
from launch.commands.words import CommandGroup
from launch.errors import explain, say
from launch.launchers.commands import launch_app
from launch.launchers.preemption import heed_the_warning
from launch.launchers.ranks import adopt
from launch.limits import allow_open_files
from launch.models import model_app
from launch.streams import lost_output, prepare_streams

app = CommandGroup(
    name="robustclip",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Make any CLIP robust, and say honestly how robust it is.\n\n"
        "Start with [bold]robustclip demo[/bold]: the whole job on embedded data, in minutes on a laptop.\n\n"
        "Recipes are YAML files named on the command line, and changed there:\n\n"
        "[dim]robustclip finetune fare_vit_l14_eps4 trainer.devices=8 data.shards='/data/train-{0000..1023}.tar'[/dim]"
    ),
)
app.add_typer(data_app, name="data")
app.add_typer(launch_app, name="launch")
app.add_typer(model_app, name="model")
app.add_typer(selftest_app, name="selftest")
for command in (
    training.demo,
    training.pretrain,
    training.finetune,
    training.perceptual,
    training.embed,
    training.prior,
    training.replay,
    sweeping.sweep,
    robustifying.robustify,
    judging.evaluate,
    judging.watch,
    judging.scorecard,
    judging.tune,
    judging.report,
    judging.compare,
    judging.bench,
    judging.traps,
    perceiving.distance,
    perceiving.invert,
    training.plan,
):
    app.command()(command)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    if debug:
        os.environ["ROBUSTCLIP_DEBUG"] = "1"


def _refusal() -> str:
    """Return why nothing can be done from here; empty where it can."""
    if sys.flags.optimize:
        return "results are checked by assertions, which python -O and PYTHONOPTIMIZE switch off; start without them"
    try:
        Path.cwd()
    except OSError:  # torch would end the process
        return "the current folder does not exist any more; change to another one"
    return ""


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2, Ctrl-C is 130."""
    # OpenMP threads that wait by spinning starve each other where cores are shared; read when torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    prepare_streams()
    allow_open_files()
    if reason := _refusal():
        say(reason)
        sys.exit(2)
    heed_the_warning(next((word for word in sys.argv[1:] if not word.startswith("-")), ""))
    adopt(os.environ)
    if "LOCAL_RANK" in os.environ:  # a launcher started this process and would end it
        by_ours = None if "RANK" in os.environ else os.environ.get(STARTED_BY)
        end_with_parent(signal.SIGTERM, int(by_ours) if by_ours else None)
    debug = "--debug" in sys.argv
    try:
        code = app(standalone_mode=False) or 0  # typer turns Ctrl-C into a return value of 130
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 2
    except Exception as error:
        if debug:
            raise
        code = explain(error)
    release_all()
    if code == 130:
        say("interrupted; start the same command again to go on")
    elif not code and (reason := lost_output()):
        say(f"standard output could not be written: {reason}")
        code = 2
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
