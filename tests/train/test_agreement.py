"""Processes go on from one checkpoint, whatever each of them sees."""

from __future__ import annotations

import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from configs.files import ConfigError
from data.parent import STARTED_BY
from tests.train.conftest import SMALL
from tests.train.pair import launch
from train.agreement import go_on_together

STRATEGIES = ["ddp", "fsdp2", *(["zero2"] if find_spec("deepspeed") else [])]
TWO = [word for word in SMALL if "devices" not in word]
TWO += ["trainer.devices=2", "attack.steps=2", "evaluation=null", "trainer.checkpoint_every=1"]
LAST, ALL = "step=000003.ckpt", [f"step={step:06d}.ckpt" for step in (1, 2, 3)]
SEEN: dict[str, dict[str, Any]] = {
    "later": {"unseen": [LAST]},  # the second process calls an older one the newest
    "damaged": {"damaged": [LAST], "unseen": ALL},  # and the second process sees none
}
PAIRS = [("ddp", "later"), *((strategy, "damaged") for strategy in STRATEGIES)]


class Launcher:
    """Calls a function as Lightning's launchers do."""

    def launch(self, function: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        return function(*args, **settings)


def told(rank: int, broadcast: Callable[[Any], Any], launcher: Any) -> tuple[Any, list[str]]:
    """The checkpoint that the fit of a process starts from, and what happened in which order."""
    heard: list[str] = []

    def choose() -> Path:
        heard.append("chosen")
        return Path("newest")

    strategy = SimpleNamespace(launcher=launcher, broadcast=broadcast)
    strategy.connect = lambda module: heard.append(f"connected {module}")
    strategy.setup_environment = lambda: heard.append("met")
    trainer: Any = SimpleNamespace(strategy=strategy, is_global_zero=rank == 0, ckpt_path=None)
    module: Any = "module"
    go_on_together(trainer, module, choose)
    if launcher is None:
        return trainer.ckpt_path, heard
    assert trainer.ckpt_path is None and not heard, "processes have not met yet"
    return launcher.launch(lambda word, end: (trainer.ckpt_path, [*heard, word, end]), "fitted", end="ended")


@pytest.fixture(autouse=True)
def _own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STARTED_BY, "")


def test_processes_that_a_launcher_has_started_agree_at_once() -> None:
    assert told(0, lambda told: told, None) == (Path("newest"), ["connected module", "met", "chosen"])
    assert told(1, lambda _: (Path("theirs"), ""), None) == (Path("theirs"), ["connected module", "met"])


def test_the_first_process_chooses_once_all_have_met_and_the_others_are_told() -> None:
    after = ["connected module", "met"]
    assert told(0, lambda told: told, Launcher()) == (Path("newest"), [*after, "chosen", "fitted", "ended"])
    assert told(1, lambda _: (Path("theirs"), ""), Launcher()) == (Path("theirs"), [*after, "fitted", "ended"])


@pytest.mark.parametrize("rank", [0, 1])
def test_what_the_first_process_refuses_ends_all_of_them(rank: int) -> None:
    def refuse() -> Path:
        raise ConfigError("poisoned")

    strategy = SimpleNamespace(launcher=None, connect=lambda module: None, setup_environment=lambda: None)
    strategy.broadcast = lambda told: told if rank == 0 else (None, "poisoned")
    trainer: Any = SimpleNamespace(strategy=strategy, is_global_zero=rank == 0, ckpt_path=None)
    module: Any = "module"
    with pytest.raises(ConfigError, match="^poisoned$"):
        go_on_together(trainer, module, refuse)


def test_a_port_that_is_in_use_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def setup() -> None:
        TCPStore("127.0.0.1", port, world_size=2, is_master=True, use_libuv=True, wait_for_workers=False)

    strategy = SimpleNamespace(launcher=None, connect=lambda module: None, setup_environment=setup)
    trainer: Any = SimpleNamespace(strategy=strategy, is_global_zero=True, ckpt_path=None)
    module: Any = "module"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(ConfigError, match=rf"cannot connect: 127\.0\.0\.1:{port} is in use; set another"):
            go_on_together(trainer, module, lambda: None)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs that were stopped after three of four steps and went on."""
    folder, jobs = tmp_path_factory.mktemp("agreement"), []
    for strategy in STRATEGIES:
        job = {"kind": "finetune", "recipe": "fare_tiny_eps4", "overrides": [*TWO, f"trainer.strategy={strategy}"]}
        jobs.append({**job, "out": str(folder / f"{strategy}-whole")})
        for name, seen in SEEN.items():
            if (strategy, name) not in PAIRS:
                continue
            where = {**job, "out": str(folder / f"{strategy}-{name}")}
            jobs += [{**where, "planted": {"what": "power", "step": 3}}, {**where, **seen}]
    launch(jobs, folder)
    return folder


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("strategy", "name"), PAIRS)
def test_both_go_on_from_the_one_that_the_first_process_sees(strategy: str, name: str, pair: Path) -> None:
    run, whole = pair / f"{strategy}-{name}", pair / f"{strategy}-whole"
    assert (run / "ended-0.txt").read_text() == (run / "ended-1.txt").read_text() == "done"
    one, other = (load_file(folder / "export" / "encoder.safetensors") for folder in (run, whole))
    assert all(torch.equal(one[key], other[key]) for key in other)
    assert (run / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1800)
def test_damage_is_told_once(pair: Path) -> None:
    told = [(pair / f"rank{rank}.txt").read_text().count("is damaged; going back to the one before") for rank in (0, 1)]
    assert told == [len(STRATEGIES), 0]
