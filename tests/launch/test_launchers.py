"""Launchers: the text of their lines and scripts, and that these run, whoever starts the processes."""

from __future__ import annotations

import os
import shlex
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
from configs.load import load_config, to_yaml
from launch.evaluation import part_of
from launch.launchers import ranks
from launch.launchers.deepspeed import deepspeed_command
from launch.launchers.job import Job, shown
from launch.launchers.local import local_command
from launch.launchers.preemption import heed_the_warning
from launch.launchers.prepare import prepare
from launch.launchers.ranks import adopt, agreed_folder, open_agreed_run, rank_of, validate_launch
from launch.launchers.slurm import Resources, sbatch_script
from launch.launchers.submit import submit
from launch.launchers.torchrun import torchrun_command
from tests.launch.typed import typed
from tests.waiting import CEILING, free_port, wait_until

PROGRAM = (sys.executable, "-m", "launch.cli")
STRANGE = "a b'c\"$HOME;%j\\"
JOB = Job("finetune", ("fare_tiny_eps4", "data.batch_size=8"), Path("runs/x"), 2, 4)
TINY = (
    "trainer.accelerator=cpu",
    "optimizer.max_steps=4",
    "optimizer.warmup_steps=1",
    "trainer.checkpoint_every=2",
    "data.batch_size=8",
    "attack.steps=2",
    "evaluation=null",
)
BATCH = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
SRUN = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Any]:
    """The command in this process and an empty folder: exit code, standard output, lines of standard error."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        code = typed(monkeypatch, *arguments)
        told = capsys.readouterr()
        return code, told.out, told.err.splitlines()

    return run


# --- the text -------------------------------------------------------------------------------------------------------


def test_every_launcher_tells_the_training_how_many_processes_it_starts() -> None:
    lines = [
        local_command(replace(JOB, nodes=1)),
        torchrun_command(JOB, rendezvous="node0"),
        deepspeed_command(JOB, hostfile=Path("hosts")),
        shlex.split(sbatch_script(JOB, Resources()).splitlines()[-1]),
    ]
    for line, nodes in zip(lines, (1, 2, 2, 2), strict=True):
        assert "trainer.devices=4" in line and f"trainer.num_nodes={nodes}" in line
        assert line[line.index("--out") + 1] == "runs/x"


def test_torchrun_starts_as_many_processes_as_the_trainer_expects() -> None:
    one = torchrun_command(replace(JOB, nodes=1))
    assert one[1:7] == ["-m", "torch.distributed.run", "--nproc-per-node", "4", "--standalone", "--no-python"]
    two = torchrun_command(JOB, rendezvous="node0:1234", restarts=3)
    assert two[two.index("--nnodes") + 1] == "2" and two[two.index("--rdzv-endpoint") + 1] == "node0:1234"
    assert two[two.index("--rdzv-id") + 1] == "x" and two[two.index("--max-restarts") + 1] == "3"
    assert "node0:29500" in torchrun_command(JOB, rendezvous="node0")


def test_a_script_says_its_resources_and_survives_preemption() -> None:
    job = replace(JOB, out=Path("/shared/runs/x"))
    script = sbatch_script(job, Resources(time="24:00:00", partition="h100", cpus=6, mem="200G"))
    assert script == (
        "#!/bin/bash\n"
        "#SBATCH --job-name=finetune-fare_tiny_eps4\n"
        "#SBATCH --nodes=2\n"
        "#SBATCH --ntasks-per-node=4\n"
        "#SBATCH --gpus-per-node=4\n"
        "#SBATCH --cpus-per-task=6\n"
        "#SBATCH --mem=200G\n"
        "#SBATCH --time=24:00:00\n"
        "#SBATCH --partition=h100\n"
        "#SBATCH --output=/shared/runs/x.%j.log\n"
        "#SBATCH --requeue\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --signal=USR1@120\n"
        "set -euo pipefail\n"
        'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"\n'
        "srun --kill-on-bad-exit=1 robustclip finetune fare_tiny_eps4 data.batch_size=8 trainer.devices=4 "
        "trainer.num_nodes=2 --out /shared/runs/x\n"
    )


def test_gpus_are_asked_for_once_and_only_where_they_are_wanted() -> None:
    assert "gpus-per-node" not in sbatch_script(JOB, Resources(gpus=False))
    other = sbatch_script(JOB, Resources(more=("gres=gpu:a100:4", "exclusive")))
    assert "gpus-per-node" not in other
    assert "#SBATCH --gres=gpu:a100:4\n#SBATCH --exclusive\n" in other
    assert "requeue" not in sbatch_script(JOB, Resources(requeue=False))


@pytest.mark.parametrize("kind", ["finetune", "evaluate"])
def test_strange_paths_reach_the_process_as_they_are(kind: str, tmp_path: Path) -> None:
    """The line of a script is run by bash with an ``srun`` that shows what it is given."""
    out = tmp_path / STRANGE
    words = ("m.pt", "digits", f"x={STRANGE}") if kind == "evaluate" else ("r.yaml", f"data.shards={STRANGE}")
    job = Job(kind, words, out, 1, 2, (str(tmp_path / "the program"),))
    show = f"#!{sys.executable}\nimport sys\nfor word in sys.argv[1:]: print(ascii(word))\n"
    for name in ("srun", "the program"):
        (tmp_path / name).write_text(show)
        (tmp_path / name).chmod(0o755)
    script = tmp_path / "s"
    script.write_text(sbatch_script(job, Resources()))
    path = f"{tmp_path}:{os.environ['PATH']}"
    told = subprocess.run(["bash", script], env={"PATH": path}, capture_output=True, text=True, check=True).stdout
    assert [ascii(word) for word in job.command] == [w for w in told.splitlines() if w in map(ascii, job.command)][
        : len(job.command)
    ]
    assert told.count(ascii(str(out))) == (2 if kind == "evaluate" else 1)


def test_a_percent_sign_in_a_path_is_not_slurms() -> None:
    script = sbatch_script(replace(JOB, out=Path('/a "b"/50%j')), Resources())
    assert '#SBATCH --output="/a \\"b\\"/50%%j.%j.log"\n' in script
    with pytest.raises(ConfigError, match="line's end"):
        sbatch_script(replace(JOB, out=Path("a\n#SBATCH --uid=0")), Resources())


def test_an_evaluation_gives_every_task_its_images_and_its_gpu(tmp_path: Path) -> None:
    job = Job("evaluate", ("m.pt", "digits"), tmp_path / "o", 1, 2, ("echo", "robustclip"))
    script = sbatch_script(job, Resources()).replace("srun --kill-on-bad-exit=1", "env SLURM_PROCID=1 SLURM_LOCALID=1")
    told = subprocess.run(
        ["bash", "-c", script], env={"SLURM_NTASKS": "2", "PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    first, last = told.stdout.splitlines()
    assert first == f"robustclip evaluate m.pt digits --out {job.out} --shard 2/2"
    assert last == f"robustclip report {job.out}"


def test_deepspeed_is_given_its_strategy_unless_the_user_has_one(here: Any) -> None:
    line = ("launch", "deepspeed", "finetune", "fare_tiny_eps4", "--gpus", "2", "--dry-run")
    assert here(*line)[1].endswith(" trainer.strategy=zero2\n")
    own = here(*line, "trainer.strategy=ddp")[1]
    assert own.count("trainer.strategy=") == 1 and "deepspeed --num_gpus 2 --no_local_rank --no_python " in own


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: torchrun_command(JOB), "--rendezvous HOST"),
        (lambda: local_command(JOB), "this machine is one"),
        (lambda: local_command(replace(JOB, kind="evaluate", nodes=1)), "launch torchrun evaluate"),
        (lambda: deepspeed_command(JOB), "--hostfile"),
        (lambda: deepspeed_command(replace(JOB, kind="evaluate")), "DeepSpeed trains"),
        (lambda: Resources(time="soon"), "--time 'soon'"),
        (lambda: Resources(cpus=0), "--cpus 0"),
        (lambda: Resources(more=("--qos=x",)), "name=value"),
    ],
)
def test_what_a_launcher_cannot_do_is_told_in_a_line(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert told in str(caught.value) and "\n" not in str(caught.value)


# --- before anything starts -----------------------------------------------------------------------------------------


def test_all_faults_of_a_job_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        prepare("finetune", ["fare_vit_l14_eps4", "threat.eps=-1", "trainer.devices=3"], None, nodes=0, devices=8)
    told = str(caught.value).splitlines()
    assert len(told) == 4 and "--nodes 0" in told[0] and "trainer.devices=3" in told[1]
    assert any("data.shards is missing" in line for line in told) and any("threat" in line for line in told)


@pytest.mark.parametrize(
    ("kind", "words", "devices", "told"),
    [
        ("dance", ["x"], 1, "unknown command 'dance'"),
        ("finetune", ["fare_tiny_eps4"], 3, "choose a multiple of 6"),
        ("embed", ["tiny"], 2, "one process"),
        ("evaluate", ["tiny"], 1, "a checkpoint and a recipe"),
        ("finetune", ["fare_tiny_eps4", "--quick"], 1, "not options: --quick"),
    ],
)
def test_a_job_that_cannot_be_is_refused(kind: str, words: list[str], devices: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        prepare(kind, words, None, nodes=2, devices=devices)


def test_a_folder_is_made_up_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job, config = prepare("finetune", ["fare_tiny_eps4"], None, nodes=1, devices=2)
    assert job.out.parent == Path("runs/fare_tiny_eps4") and str(job.out) in job.command
    assert config.data.batch_size == 64
    job.out.mkdir(parents=True)
    assert prepare("finetune", ["fare_tiny_eps4"], None, nodes=1, devices=2)[0].out != job.out
    assert prepare("finetune", ["fare_tiny_eps4"], tmp_path, nodes=1, devices=2)[0].out == tmp_path


@pytest.mark.parametrize("launcher", ["local", "torchrun", "slurm", "deepspeed"])
def test_a_dry_run_prints_what_would_run_and_leaves_nothing(launcher: str, here: Any, tmp_path: Path) -> None:
    code, out, err = here("launch", launcher, "finetune", "fare_tiny_eps4", "--gpus", "2", "--dry-run")
    assert (code, err) == (0, []) and "finetune fare_tiny_eps4 trainer.devices=2 trainer.num_nodes=1 --out" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("launcher", ["local", "torchrun", "slurm", "deepspeed"])
def test_every_launcher_teaches_with_an_example(launcher: str, here: Any) -> None:
    code, out, _ = here("launch", launcher, "--help")
    assert code == 0 and f"Example: robustclip launch {launcher}" in out


def test_mistakes_cost_lines_and_exit_code_2(here: Any) -> None:
    code, out, err = here("launch", "torchrun", "finetune", "fare_tiny_eps4", "--gpus", "3", "--dry-run")
    assert (code, out, len(err)) == (2, "", 1) and "choose a multiple of 3" in err[0]
    code, _, err = here("launch", "torchrun", "finetune", "fare_tiny_eps4", "--nodes", "2")
    assert code == 2 and "--out" in err[0]


def test_a_script_is_printed_where_there_is_no_queue(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    code, out, err = here("launch", "slurm", "finetune", "fare_tiny_eps4", "trainer.accelerator=cpu")
    assert code == 0 and out.startswith("#!/bin/bash\n") and "gpus-per-node" not in out
    assert len(err) == 1 and "no sbatch here" in err[0]


def test_a_script_is_queued_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``sbatch`` that shows what it is given; submitit, where it is installed, is another test's."""
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/bash\ncp "$2" "{tmp_path}/queued"\necho "4711;cluster"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("launch.launchers.submit.find_spec", lambda name: None)
    job = replace(JOB, out=tmp_path / "a b" / "run")
    assert submit(job, Resources()) == "4711"
    assert (tmp_path / "queued").read_text() == sbatch_script(job, Resources())
    assert not job.out.exists() and job.out.parent.is_dir()  # the log's folder stands; the run's is the run's
    fake.write_text("#!/bin/bash\necho 'sbatch: error: Invalid partition' >&2; exit 1\n")
    with pytest.raises(ConfigError, match="sbatch refused .*Invalid partition"):
        submit(job, Resources())


def test_submitit_asks_for_the_same_and_starts_the_same_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is an extra")
    for name, text in (("srun", ""), ("sbatch", f'cp "$1" "{tmp_path}/queued"; echo "Submitted batch job 12"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = replace(JOB, out=tmp_path / "a b's" / "run")
    for resources in (Resources(time="1:00:00", partition="h100"), Resources(requeue=False)):
        assert submit(job, resources) == "12"
        queued = [line for line in (tmp_path / "queued").read_text().splitlines() if line.startswith("#SBATCH")]
        wanted = [line for line in sbatch_script(job, resources).splitlines() if line.startswith("#SBATCH")]
        assert {shlex.split(line)[1] for line in queued} >= {shlex.split(line)[1] for line in wanted}
        spare = {line for line in queued if not any(w.split("=")[0] == line.split("=")[0] for w in wanted)}
        assert spare <= {"#SBATCH --signal=CONT@1", "#SBATCH --open-mode=append"}
        assert job.out.with_name("run.sbatch").read_text() == sbatch_script(job, resources)


# --- which process is this ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "rank"),
    [
        ({}, 0),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 5),
        ({"LOCAL_RANK": "1"}, 1),  # started by Lightning
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, 1),
        (SRUN, 1),
        ({**SRUN, "RANK": "0"}, 0),  # torchrun inside a SLURM job
        ({**SRUN, "SLURM_JOB_NAME": "bash"}, 0),  # a person's shell on a node
        ({**BATCH, "SLURM_PROCID": "1"}, 0),  # a batch script without srun
    ],
)
def test_a_process_knows_its_number_by_any_launcher(said: dict[str, str], rank: int) -> None:
    assert rank_of(said) == rank


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, {}),
        ({"CROSS_RANK": "3"}, {"CROSS_RANK": "3", "NODE_RANK": "3"}),  # DeepSpeed's name of the node
        ({"CROSS_RANK": "3", "NODE_RANK": "1"}, {"CROSS_RANK": "3", "NODE_RANK": "1"}),
        (
            {"RANK": "", "WORLD_SIZE": " ", "LOCAL_RANK": "0"},
            {"LOCAL_RANK": "0"},
        ),  # as templates of containers leave them
        (SRUN, SRUN),
    ],
)
def test_variables_that_lightning_would_misread_are_corrected(said: dict[str, str], wanted: dict[str, str]) -> None:
    adopt(environment := dict(said))
    assert environment == wanted


@pytest.mark.parametrize(
    "said",
    [
        BATCH,  # sbatch --ntasks=2, and no srun
        {**BATCH, "SLURM_NTASKS_PER_NODE": "2"},  # Lightning would wait for the second task for hours
        {**SRUN, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"},  # srun --pty zsh on two GPUs: Lightning would train on one
        {**SRUN, "SLURM_JOB_NAME": "bash"},
    ],
)
def test_without_several_tasks_by_srun_lightning_starts_the_processes_itself(
    said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from pytorch_lightning import Trainer

    for name, value in {**said, "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_JOB_NAME", said["SLURM_JOB_NAME"])  # so that it is put back
    adopt(os.environ)
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    assert isinstance(trainer.strategy.cluster_environment, LightningEnvironment)  # pyright: ignore[reportAttributeAccessIssue]
    assert trainer.world_size == 2 and rank_of() == 0 and agreed_folder("r", None) is None


@pytest.mark.parametrize(
    ("said", "nodes", "line"),
    [
        (
            {"RANK": "1", "WORLD_SIZE": "2"},
            1,
            "sets RANK=1, WORLD_SIZE=2, but not LOCAL_RANK; start the processes with",
        ),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 1, "sets RANK=0, WORLD_SIZE=2, but not LOCAL_RANK"),
        ({"RANK": "1"}, 1, "sets RANK=1, but not LOCAL_RANK and WORLD_SIZE"),
        ({"LOCAL_RANK": "1"}, 1, "sets LOCAL_RANK=1, but not WORLD_SIZE"),
        ({"RANK": "one"}, 1, "variable RANK='one' is not a number; unset it"),
        ({"MASTER_PORT": "a"}, 1, "variable MASTER_PORT='a' is not a number"),
        ({"NODE_RANK": "1"}, 1, "sets NODE_RANK=1, but trainer.num_nodes=1"),
        ({}, 2, "trainer.num_nodes=2, but no launcher started this process"),
        ({"NODE_RANK": "1"}, 2, "trainer.num_nodes=2, but"),
        (BATCH, 2, "trainer.num_nodes=2, but"),
    ],
)
def test_variables_of_a_launcher_that_did_not_start_this_process_are_refused(
    said: dict[str, str], nodes: int, line: str
) -> None:
    with pytest.raises(ConfigError, match=line):
        validate_launch(nodes, said)


@pytest.mark.parametrize(
    ("said", "nodes"),
    [
        ({}, 1),
        ({"RANK": "0", "WORLD_SIZE": "1"}, 1),
        ({"WORLD_SIZE": "2"}, 1),  # says nothing of this process
        ({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"}, 1),  # torchrun
        ({"RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "GROUP_RANK": "1"}, 2),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2", "NODE_RANK": "0"}, 1),  # started by Lightning
        ({"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, 2),
        (SRUN, 1),
        (SRUN, 2),
        (BATCH, 1),
    ],
)
def test_variables_of_every_launcher_are_accepted(said: dict[str, str], nodes: int) -> None:
    validate_launch(nodes, said)


def test_an_evaluation_by_half_of_a_launcher_ends_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert part_of("1/1") == (1, 1, False)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match="sets RANK=1, WORLD_SIZE=2, but not LOCAL_RANK"):
        part_of("1/1")


def test_processes_without_a_folder_agree_on_one_by_the_jobs_number() -> None:
    assert agreed_folder("r", None, {}) is None and agreed_folder("r", Path("x"), SRUN) == Path("x")
    assert agreed_folder("r", None, SRUN) == Path("runs/r/slurm-77")
    elastic = {"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a/b"}
    assert agreed_folder("r", None, elastic) == Path("runs/r/torchrun-a-b")
    with pytest.raises(ConfigError, match="2 processes need one folder; name it with --out"):
        agreed_folder("r", None, {**elastic, "TORCHELASTIC_RUN_ID": "none"})
    assert agreed_folder("r", None, {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}) is None  # Lightning's own child


def test_only_the_first_process_opens_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, out = load_config("finetune", "fare_tiny_eps4"), tmp_path / "run"
    monkeypatch.setattr(ranks, "_PATIENCE", 0.2)
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="process 1 waited in vain"):
        open_agreed_run("r", config, out, command="")
    assert not out.exists()
    monkeypatch.setenv("RANK", "0")
    open_agreed_run("r", config, out, command="")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    monkeypatch.setenv("RANK", "1")
    assert open_agreed_run("r", config, out, command="").folder == out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    (out / "config.yaml").write_text(to_yaml(load_config("finetune", "fare_tiny_eps4", ["seed=1"])))
    with pytest.raises(ConfigError, match="waited in vain"):
        open_agreed_run("r", config, out, command="")


@pytest.mark.parametrize(("kind", "number", "asks"), [("finetune", "0", 1), ("finetune", "1", 0), ("evaluate", "1", 1)])
def test_a_job_that_ends_soon_is_queued_again(
    kind: str, number: str, asks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "scontrol"
    fake.write_text(f'#!/bin/bash\necho "$@" >> "{tmp_path}/asked"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = signal.getsignal(signal.SIGUSR1)
    try:
        assert heed_the_warning(kind, {**SRUN, "SLURM_PROCID": number})
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.01)
    finally:
        signal.signal(signal.SIGUSR1, before)
    asked = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
    assert asked == ["requeue 77"] * asks
    assert not heed_the_warning(kind, {})


# --- and it runs ----------------------------------------------------------------------------------------------------


def started(command: list[str], folder: Path, **variables: str) -> subprocess.Popen[str]:
    """A command in a folder of its own, as a person starts it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "RANK", "LOCAL_", "MASTER_", "WORLD"))}
    env = {**clean, "HF_HUB_OFFLINE": "1", **variables}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=folder, env=env, text=True, start_new_session=True, **pipes)


def finished(*processes: subprocess.Popen[str]) -> list[str]:
    told = [process.communicate(timeout=CEILING)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(told)
    return told


def tiny(out: Path, *, nodes: int = 1, devices: int = 2) -> Job:
    return Job("finetune", ("fare_tiny_eps4", *TINY), out, nodes, devices, PROGRAM)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "export" / "encoder.safetensors")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of the run on two processes that Lightning itself starts here."""
    out = tmp_path_factory.mktemp("two") / "a b" / "run"
    finished(started(local_command(tiny(out)), out.parents[1]))
    return weights(out)


def assert_same_run(out: Path, two: dict[str, torch.Tensor]) -> None:
    assert {path.name for path in out.iterdir()} == {
        *("checkpoints", "config.yaml", "done", "env.json", "export", "metrics.csv", "metrics.jsonl", "perf.csv")
    }
    assert all(torch.equal(value, two[name]) for name, value in weights(out).items())


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_train_what_one_does(tmp_path: Path, two: Any) -> None:
    """One process, as a person types it: the launcher becomes the training."""
    line = [*PROGRAM, "launch", "local", "finetune", "fare_tiny_eps4", *TINY, "--out", "run"]
    told = finished(started(line, tmp_path))[0]
    assert "start again with --out run to go on" in told and "encoder: run/export" in told
    for name, value in weights(tmp_path / "run").items():
        if not name.endswith("in_proj_bias"):  # a key's bias has no gradient but rounding, and AdamW makes that large
            apart = (two[name] - value).abs()  # so it does with a weight here and there
            assert apart.mean() < 1e-6 and (apart > 2e-4).float().mean() < 1e-4, name


@pytest.mark.slow
@pytest.mark.distributed
def test_torchrun_starts_two_processes(tmp_path: Path, two: Any) -> None:
    out = tmp_path / "a b" / "run"
    told = finished(started(torchrun_command(tiny(out)), tmp_path))[0]
    assert told.count("encoder: ") == 1  # one process speaks
    assert_same_run(out, two)


@pytest.mark.slow
@pytest.mark.distributed
def test_a_bare_torchrun_of_the_module_needs_no_folder(tmp_path: Path, two: Any) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "launch.cli"]
    finished(started([*start, "finetune", "fare_tiny_eps4", *TINY, "trainer.devices=2"], tmp_path))
    (run,) = (tmp_path / "runs" / "fare_tiny_eps4").iterdir()
    assert run.name.startswith("torchrun-")
    assert_same_run(run, two)


@pytest.mark.slow
@pytest.mark.distributed
def test_torchrun_goes_on_after_a_process_was_killed(tmp_path: Path, two: Any) -> None:
    out = tmp_path / "run"
    training = started(torchrun_command(tiny(out), restarts=1), tmp_path)
    first = out / "checkpoints" / "step=000002.ckpt"
    wait_until(lambda: first.is_file() or training.poll() is not None)
    agent = Path(f"/proc/{training.pid}/task/{training.pid}/children")
    os.kill(int(agent.read_text().split()[-1]), signal.SIGKILL)
    assert finished(training)[0].count("GLOBAL_RANK: 0") == 2
    assert_same_run(out, two)


@pytest.mark.slow
@pytest.mark.distributed
def test_two_agents_of_torchrun_are_two_nodes(tmp_path: Path, two: Any) -> None:
    out = tmp_path / "run"
    line = torchrun_command(tiny(out, nodes=2, devices=1), rendezvous=f"127.0.0.1:{free_port()}")
    finished(*(started(line, tmp_path) for _ in range(2)))
    assert_same_run(out, two)


@pytest.mark.slow
@pytest.mark.distributed
def test_srun_starts_two_tasks_and_they_agree_on_a_folder(tmp_path: Path, two: Any) -> None:
    """A bare ``srun robustclip finetune …``, by the variables that SLURM gives its tasks."""
    job = {
        **{"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"},
        **{"SLURM_STEP_ID": "0"},
        **{"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "127.0.0.1"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())},
    }
    line = [*PROGRAM, "finetune", "fare_tiny_eps4", *TINY, "trainer.devices=2"]
    finished(*(started(line, tmp_path, **job, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in ("0", "1")))
    assert_same_run(tmp_path / "runs" / "fare_tiny_eps4" / "slurm-4711", two)


@pytest.mark.slow
@pytest.mark.distributed
def test_deepspeeds_launcher_starts_two_processes(tmp_path: Path, two: Any) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is an extra")
    program = Path(sys.executable).with_name("deepspeed")
    job = replace(tiny(tmp_path / "run"), words=("fare_tiny_eps4", *TINY, "trainer.strategy=ddp"))
    line = deepspeed_command(job, program=str(program))
    line.insert(1, f"--master_port={free_port()}")
    finished(started(line, tmp_path, DS_ACCELERATOR="cpu"))
    assert_same_run(job.out, two)


def test_a_line_is_what_a_shell_reads() -> None:
    assert shlex.split(shown(tiny(Path(STRANGE)).command)) == tiny(Path(STRANGE)).command
