"""``robustclip launch``: the same job here, under torchrun, on SLURM, or by DeepSpeed's launcher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.commands.words import CommandGroup

if TYPE_CHECKING:
    from launch.launchers.job import Job

launch_app = CommandGroup(
    no_args_is_help=True,
    help=(
        "Start a job on one process or thousands; --dry-run shows the exact command or script.\n\n"
        "[dim]robustclip launch slurm finetune fare_vit_l14_eps4 --nodes 4 --gpus 8 --time 24:00:00 "
        "data.shards='/data/train-{0000..1023}.tar'[/dim]"
    ),
)

Kind = Annotated[
    str, typer.Argument(help="finetune, perceptual, prior, pretrain, evaluate, embed or tune.", metavar="COMMAND")
]
Words = Annotated[
    list[str],
    typer.Argument(help="Its recipe and key=value; before them the checkpoint, of an evaluation.", metavar="RECIPE..."),
]
Out = Annotated[Path | None, typer.Option("--out", help="The run's folder; made up once where it is not said.")]
Gpus = Annotated[int, typer.Option("--gpus", "--devices", help="Processes per node, one per GPU.")]
Nodes = Annotated[int, typer.Option("--nodes", help="Machines.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the command or the script, and start nothing.")]


@launch_app.command()
def local(kind: Kind, words: Words, gpus: Gpus = 1, out: Out = None, dry_run: DryRun = False) -> None:
    """Run on this machine; Lightning starts a process per device.

    Example: robustclip launch local finetune fare_tiny_eps4 --devices 2 trainer.accelerator=cpu
    """
    from launch.launchers.local import local_command

    job, _ = _prepared(kind, words, out, 1, gpus)
    _run(job, local_command(job), dry_run=dry_run)


@launch_app.command()
def torchrun(
    kind: Kind,
    words: Words,
    gpus: Gpus = 1,
    nodes: Nodes = 1,
    rendezvous: Annotated[
        str | None, typer.Option("--rendezvous", help="HOST or HOST:PORT of the first node, where there are several.")
    ] = None,
    restarts: Annotated[int, typer.Option("--restarts", help="Start anew so many times after a failure.")] = 0,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Run under torchrun, on this node; several nodes run the same line each.

    Example: robustclip launch torchrun finetune fare_tiny_eps4 --gpus 8 --nodes 2 --rendezvous node0 --out /shared/run
    """
    from configs.files import ConfigError
    from launch.launchers.torchrun import torchrun_command

    job, _ = _prepared(kind, words, out, nodes, gpus)
    if nodes > 1 and out is None:
        raise ConfigError(f"{nodes} nodes run a line each; name the folder that they share with --out")
    _run(job, torchrun_command(job, rendezvous=rendezvous, restarts=restarts), dry_run=dry_run)


@launch_app.command()
def slurm(
    kind: Kind,
    words: Words,
    gpus: Gpus = 1,
    nodes: Nodes = 1,
    time: Annotated[str | None, typer.Option("--time", help="Limit, e.g. 24:00:00.")] = None,
    partition: Annotated[str | None, typer.Option("--partition", help="Partition.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Account.")] = None,
    cpus: Annotated[int | None, typer.Option("--cpus", help="CPUs per process.")] = None,
    mem: Annotated[str | None, typer.Option("--mem", help="Memory per node, e.g. 200G.")] = None,
    sbatch: Annotated[list[str] | None, typer.Option("--sbatch", help="Any other option, name=value.")] = None,
    requeue: Annotated[bool, typer.Option(help="Go on after a preemption.")] = True,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Queue a batch script on SLURM; it goes on by itself after a preemption.

    Example: robustclip launch slurm finetune fare_tiny_eps4 --nodes 4 --gpus 8 --time 24:00:00 --partition h100
    """
    from dataclasses import replace

    from launch.launchers.slurm import Resources

    job, config = _prepared(kind, words, out, nodes, gpus)
    job = replace(job, out=job.out.absolute())
    where = config.trainer.accelerator if hasattr(config, "trainer") else config.device
    asked = {"time": time, "partition": partition, "account": account, "cpus": cpus, "mem": mem}
    resources = Resources(**asked, gpus=where != "cpu", requeue=requeue, more=tuple(sbatch or ()))
    _queue(job, resources, dry_run=dry_run)


@launch_app.command()
def deepspeed(
    kind: Kind,
    words: Words,
    gpus: Gpus = 1,
    nodes: Nodes = 1,
    hostfile: Annotated[Path | None, typer.Option("--hostfile", help="Lines of 'host slots=8', for nodes.")] = None,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Train by DeepSpeed's launcher, started on one node.

    Example: robustclip launch deepspeed finetune fare_tiny_eps4 --gpus 8 trainer.strategy=zero1
    """
    from launch.launchers.deepspeed import STRATEGY, deepspeed_command

    job, config = _prepared(kind, words, out, nodes, gpus)
    unsaid = kind in ("finetune", "prior") and config.trainer.strategy == "auto"
    beside = Path(sys.executable).with_name("deepspeed")
    program = str(beside) if beside.is_file() else "deepspeed"
    line = deepspeed_command(job, program=program, hostfile=hostfile, strategy=STRATEGY if unsaid else None)
    _run(job, line, dry_run=dry_run)


def _prepared(kind: str, words: list[str], out: Path | None, nodes: int, gpus: int) -> tuple[Job, Any]:
    from launch.launchers.prepare import prepare

    return prepare(kind, words, out, nodes=nodes, devices=gpus)


def _run(job: Job, command: list[str], *, dry_run: bool) -> None:
    from launch.errors import say
    from launch.launchers.job import shown
    from launch.launchers.submit import become

    if dry_run:
        print(shown(command))
        return
    say(f"run: {job.out}; start again with --out {job.out} to go on")
    become(command)


def _queue(job: Job, resources: Any, *, dry_run: bool) -> None:
    import shutil

    from launch.errors import say
    from launch.launchers.slurm import sbatch_script
    from launch.launchers.submit import submit

    script = sbatch_script(job, resources)
    if dry_run or shutil.which("sbatch") is None:
        print(script, end="")
        if not dry_run:
            say(f"no sbatch here; submit this script where there is one (its log goes to {job.out.parent})")
        return
    print(f"job {submit(job, resources)}: {job.out}")
