"""The evaluation of checkpoints: when it runs, on which weights, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from configs.files import ConfigError
from eval.callback import EvaluateCheckpoints
from eval.evaluate import fingerprint
from eval.harness import Evaluation
from eval.plan import Plan
from eval.results import Result, read_results, write_results
from eval.rows import Subject
from tests.modules.toys import ConvEncoder, images
from train.callbacks import SaveCheckpoints

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings(r"ignore:.*`isinstance\(treespec, LeafSpec\)` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*Starting from v1.9.0"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
]
Planned = Callable[..., Plan]


class Training(pl.LightningModule):
    """An encoder in the space of the embedded model, trained under random noise of torch's global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ConvEncoder(dim=128, size=32)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.encoder(batch + 0.1 * torch.randn_like(batch)) - 1).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, *callbacks: Callback, steps: int = 4, resume: Path | None = None) -> Training:
    torch.manual_seed(0)
    module = Training()
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(images(16, size=32), batch_size=2), ckpt_path=resume, weights_only=True)  # pyright: ignore[reportArgumentType]
    return module


def saved(folder: Path, step: int) -> Path:
    return folder / f"step={step:06d}.ckpt"


def weights_in(path: Path) -> str:
    module = Training()
    module.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    return fingerprint(module.encoder)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    """What was judged; the judging itself is a row, and moves the global generator."""
    seen: list[Subject] = []

    def judge(encoder: Any, plan: Plan, subject: Subject, **settings: Any) -> Evaluation:
        seen.append(replace(subject, fingerprint=fingerprint(encoder)))
        torch.manual_seed(99)
        return Evaluation([row(subject.step, subject.encoder)])

    monkeypatch.setattr("eval.callback.evaluate", judge)
    return seen


def row(step: int, encoder: str = "E") -> Result:
    texts = dict.fromkeys(
        ("task", "dataset", "checkpoint", "defense", "attack", "view", "norm", "metric", "config"), ""
    )
    numbers = dict.fromkeys(("eps", "value", "low", "high", "seconds"), 0.0)
    return Result(**texts, **numbers, n=1, step=step, seed=0, encoder=encoder)


@pytest.mark.parametrize("last", [False, True])
def test_each_checkpoint_is_judged_once_with_its_own_weights(
    last: bool, calls: list[Subject], planned: Planned, tmp_path: Path
) -> None:
    """Wherever the callback stands in the list."""
    callbacks = [EvaluateCheckpoints(planned(), tmp_path, name="E"), SaveCheckpoints(tmp_path, every=2)]
    fit(tmp_path, *callbacks[:: -1 if last else 1], steps=5)
    assert [call.step for call in calls] == [2, 4, 5]
    for call in calls:
        assert call.checkpoint == f"step={call.step:06d}.ckpt"
        assert call.fingerprint == weights_in(tmp_path / call.checkpoint)
    assert len({call.fingerprint for call in calls}) == 3
    assert [found.step for found in read_results(tmp_path / "results.jsonl")] == [2, 4, 5]


def test_it_works_with_lightnings_own_checkpoints_too(calls: list[Subject], planned: Planned, tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="{step:06d}", every_n_train_steps=2, save_top_k=-1)
    fit(tmp_path, EvaluateCheckpoints(planned(), tmp_path, name="E"), keep)
    assert [(call.step, call.fingerprint) for call in calls] == [(s, weights_in(saved(tmp_path, s))) for s in (2, 4)]


def test_checkpoints_of_weights_alone_are_refused(planned: Planned, tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, save_weights_only=True)
    with pytest.raises(ConfigError, match="set save_weights_only=False"):
        fit(tmp_path, EvaluateCheckpoints(planned(), tmp_path, name="E"), keep)


def test_training_does_not_notice(calls: list[Subject], planned: Planned, tmp_path: Path) -> None:
    """Although this evaluation reseeds the generator that the training reads."""
    alone = fit(tmp_path / "alone", SaveCheckpoints(tmp_path / "alone", every=2))
    watched = fit(tmp_path, EvaluateCheckpoints(planned(), tmp_path, name="E"), SaveCheckpoints(tmp_path, every=2))
    assert len(calls) == 2
    assert fingerprint(alone) == fingerprint(watched)


def test_a_checkpoint_says_that_it_is_due(calls: list[Subject], planned: Planned, tmp_path: Path) -> None:
    callback = EvaluateCheckpoints(planned(), tmp_path, name="E")
    fit(tmp_path, callback, SaveCheckpoints(tmp_path, every=2))
    for step in (2, 4):
        states = torch.load(saved(tmp_path, step), weights_only=True)["callbacks"]
        assert states[callback.state_key] == {"due": step}


def killed_after(step: int) -> Callback:
    class Kill(Callback):
        def on_train_batch_start(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
        ) -> None:
            if trainer.global_step == step:
                raise RuntimeError("killed")

        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.on_train_batch_start(trainer, pl_module, None, 0)

    return Kill()


@pytest.mark.parametrize("step", [2, 4])
def test_what_was_saved_and_not_judged_is_judged_at_the_next_start(
    step: int, calls: list[Subject], planned: Planned, tmp_path: Path
) -> None:
    """Also the last checkpoint, behind which nothing is left to train."""
    with pytest.raises(RuntimeError, match="killed"):
        fit(
            tmp_path,
            killed_after(step),
            EvaluateCheckpoints(planned(), tmp_path, name="E"),
            SaveCheckpoints(tmp_path, every=2),
        )
    assert [call.step for call in calls] == [2][: step // 2 - 1]
    fit(
        tmp_path,
        EvaluateCheckpoints(planned(), tmp_path, name="E"),
        SaveCheckpoints(tmp_path, every=2),
        resume=saved(tmp_path, step),
    )
    assert [(call.step, call.fingerprint) for call in calls] == [(s, weights_in(saved(tmp_path, s))) for s in (2, 4)]
    assert [found.step for found in read_results(tmp_path / "results.jsonl")] == [2, 4]


def test_what_was_judged_is_not_judged_again(calls: list[Subject], planned: Planned, tmp_path: Path) -> None:
    for resume in (None, saved(tmp_path, 2), saved(tmp_path, 4)):
        fit(
            tmp_path,
            EvaluateCheckpoints(planned(), tmp_path, name="E"),
            SaveCheckpoints(tmp_path, every=2),
            resume=resume,
        )
    assert [call.step for call in calls] == [2, 4, 4]  # step 4 was trained anew once


def test_rows_of_steps_that_are_trained_anew_are_dropped(
    calls: list[Subject], planned: Planned, tmp_path: Path
) -> None:
    old = [row(2), row(4), row(400), row(400, "another encoder")]
    write_results(tmp_path / "results.jsonl", [replace(found, value=0.5) for found in old])
    fit(
        tmp_path,
        EvaluateCheckpoints(planned(), tmp_path, name="E"),
        SaveCheckpoints(tmp_path, every=2),
    )
    found = read_results(tmp_path / "results.jsonl")
    assert [(r.step, r.encoder, r.value) for r in found] == [
        (400, "another encoder", 0.5),
        (2, "E", 0.0),
        (4, "E", 0.0),
    ]


def test_rows_are_the_harness_own(planned: Planned, tmp_path: Path) -> None:
    plan = planned("tasks.digits.limit=8", "defenses={none: {}}")
    fit(tmp_path, EvaluateCheckpoints(plan, tmp_path, name="E"), SaveCheckpoints(tmp_path, every=4))
    found = read_results(tmp_path / "results.jsonl")
    assert [(r.step, r.encoder, r.attack, r.n) for r in found] == [(4, "E", a, 8) for a in ("none", "apgd", "worst")]
    assert (tmp_path / "results.csv").is_file()
    (state,) = (tmp_path / "state").iterdir()
    assert state.name == f"step=000004-{weights_in(saved(tmp_path, 4))}"


class Masking(Callback):
    """Cuts the encoder's gradient while the third step is taken, as a purifier that is detached would."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 3:
            encode = pl_module.encoder.encode_image
            pl_module.encoder.encode_image = lambda x: encode(x.detach()) + 0 * encode(x)


def test_a_gradient_that_is_masked_during_training_raises_an_alarm(
    calls: list[Subject], planned: Planned, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = [Masking(), EvaluateCheckpoints(planned(), tmp_path, name="E"), SaveCheckpoints(tmp_path, every=2)]
    fit(tmp_path, *callbacks)
    titles = [note["title"] for note in json.loads((tmp_path / "notes.json").read_text())]
    assert "Alarm at step 4: zero_gradient (E)" in titles
    assert not [title for title in titles if "step 2" in title]
    assert "exactly zero" in caplog.text


def test_an_honest_training_raises_none_and_alarms_can_be_switched_off(
    calls: list[Subject], planned: Planned, tmp_path: Path
) -> None:
    fit(tmp_path, EvaluateCheckpoints(planned(), tmp_path, name="E"), SaveCheckpoints(tmp_path, every=2))
    assert not (tmp_path / "notes.json").exists()
    assert (tmp_path / "watch.json").exists()
    off = tmp_path / "off"
    fit(off, EvaluateCheckpoints(planned("watch=0"), off, name="E"), SaveCheckpoints(off, every=2))
    assert not (off / "watch.json").exists()
