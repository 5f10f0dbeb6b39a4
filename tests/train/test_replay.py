"""A step of a training comes back with the same bits, and the sample that broke it is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from configs.files import ConfigError
from configs.load import load_config
from data.plan import sample_indices
from data.sample import digits
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.prior_training import PriorTraining
from modules.objectives.fare import FARE
from tests.train.conftest import SMALL
from tests.train.pair import plant
from train.broken_steps import note_name
from train.embed import embed
from train.finetune import finetune
from train.prior import train_prior
from train.replay import Replay, Wishes, blamed, noted_steps, replay
from train.replay_pictures import difference, write_pictures
from train.replay_step import Sample
from train.runs import Run, open_run

STEPS = 5


@dataclass
class Trained:
    """A run, and the perturbed pictures of each of its steps."""

    run: Run
    x_adv: dict[int, Tensor]


def captured(run: Run, patch: pytest.MonkeyPatch) -> Trained:
    original, seen = AdversarialFineTuning.perturb, dict[int, Tensor]()

    def perturb(self: Any, batch: Any, step: int) -> Tensor:
        x_adv = original(self, batch, step)
        if batch.key[0].startswith("digits"):  # not what counts operations
            seen[step + 1] = torch.cat([seen[step + 1], x_adv]) if step + 1 in seen else x_adv.clone()
        return x_adv

    with patch.context() as inside:
        inside.setattr(AdversarialFineTuning, "perturb", perturb)
        finetune(run)
    return Trained(run, seen)


def config(*overrides: str) -> Any:
    said = [*SMALL, f"optimizer.max_steps={STEPS}", "attack.steps=2", "evaluation=null", *overrides]
    return load_config("finetune", "fare_tiny_eps4", said)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Checkpoints after 2, 4 and 5 steps."""
    with pytest.MonkeyPatch.context() as patch:
        return captured(open_run("fare", config(), tmp_path_factory.mktemp("replay") / "run"), patch)


def x_adv_of(found: Replay) -> Tensor:
    return torch.cat([share.x_adv for mine in found.shares for share in mine if share.x_adv is not None])


@pytest.mark.parametrize(("step", "anew"), [(3, 0), (5, 0), (1, 0), (2, 1), (4, 1)])
def test_the_perturbed_pictures_are_those_of_the_training_bit_for_bit(step: int, anew: int, trained: Trained) -> None:
    before = sorted(path.name for path in trained.run.checkpoints.iterdir())
    metrics = (trained.run.folder / "metrics.csv").read_text()
    found = replay(trained.run, "finetune", Wishes(step))
    assert torch.equal(x_adv_of(found), trained.x_adv[step])
    assert found.before.anew == anew and found.before.repeats is (True if anew else None)
    assert found.loss == found.loss_in_training and not found.to_blame
    assert sorted(path.name for path in trained.run.checkpoints.iterdir()) == before
    assert (trained.run.folder / "metrics.csv").read_text() == metrics
    assert sorted(path.name for path in found.folder.iterdir()) == ["images.png", "record.json"]


def test_an_inner_loss_rises_and_each_gradient_is_that_of_its_sample(trained: Trained) -> None:
    found = replay(trained.run, "finetune", Wishes(3))
    assert all(0 < sample.inner_start < sample.inner_end for sample in found.samples)  # pyright: ignore
    assert [sample.loss for sample in found.samples] == sorted((s.loss for s in found.samples), reverse=True)
    module, (share,) = found.before.module, found.shares[0]
    assert share.x is not None and share.x_adv is not None and isinstance(module, AdversarialFineTuning)
    module.zero_grad()
    target = module.reference.encoder.encode_image(share.x[3:4]).detach()
    (module.encoder.encode_image(share.x_adv[3:4]) - target).square().sum().backward()
    norm = torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm()
    assert share.samples[3].gradient_norm == pytest.approx(float(norm), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [["trainer.accumulate=2"], ["trainer.precision=bf16-mixed"], ["data.targets"]])
def test_accumulated_batches_half_precision_and_stored_targets_come_back_too(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [f"{name}={tmp_path}/targets" if name == "data.targets" else name for name in overrides]
    trained = captured(open_run("fare", config(*said), tmp_path / "run"), monkeypatch)
    found = replay(trained.run, "finetune", Wishes(4))
    assert found.before.anew == 1 and found.before.repeats is True
    assert torch.equal(x_adv_of(found), trained.x_adv[4])
    assert torch.equal(x_adv_of(replay(trained.run, "finetune", Wishes(3))), trained.x_adv[3])


@pytest.fixture
def bad_sample(monkeypatch: pytest.MonkeyPatch) -> str:
    """A picture of the third step whose outer loss is not finite, in the training and in the replay."""
    source = digits("train")
    key = source.keys[sample_indices(0, 16, 8, len(source))[5]]
    mine = source[source.keys.index(key)].x
    original = FARE.outer

    def outer(self: Any, encoder: Any, reference: Any, batch: Any, x_adv: Tensor) -> Tensor:
        bad = torch.tensor([torch.equal(x, mine) for x in batch.x])
        return original(self, encoder, reference, batch, x_adv) * torch.where(bad, float("inf"), 1.0)

    monkeypatch.setattr(FARE, "outer", outer)
    return key


def test_the_sample_that_broke_a_step_is_found_and_alone_to_blame(bad_sample: str, tmp_path: Path) -> None:
    run = open_run("fare", config(), tmp_path / "run")
    finetune(run)
    assert noted_steps(run.folder) == [3]
    found = replay(run, "finetune", Wishes())
    assert found.before.step == 3 and found.same_samples is True
    (guilty,) = found.to_blame
    assert guilty.key == bad_sample and guilty.broken == ["loss", "gradient"]
    assert found.samples[0] is guilty
    record = json.loads((found.folder / "record.json").read_text())
    assert record["to_blame"] == [bad_sample] and record["samples"][0]["loss"] == "inf"
    assert record["noted"]["broken"] == ["loss", "gradient"] and record["samples"][1]["broken"] == []
    with Image.open(found.folder / "images.png") as picture:
        assert picture.size[0] > 500 and len(picture.convert("RGB").getcolors(1 << 20) or []) > 10


@pytest.mark.slow
def test_a_fault_that_was_not_in_the_samples_is_not_blamed_on_them(tmp_path: Path) -> None:
    run = open_run("fare", config(), tmp_path / "run")
    original = plant(AdversarialFineTuning, {"what": "gradient", "step": 2})
    try:
        finetune(run)
    finally:
        AdversarialFineTuning.training_step = original
    found = replay(run, "finetune", Wishes())
    assert found.note is not None and found.note["broken"] == ["gradient"]
    assert found.to_blame == [] and found.same_samples is True


@pytest.mark.slow
def test_a_step_that_was_left_out_on_the_way_is_left_out_again(bad_sample: str, tmp_path: Path) -> None:
    run = open_run("fare", config("trainer.checkpoint_every=5"), tmp_path / "run")
    finetune(run)
    assert replay(run, "finetune", Wishes(5)).before.repeats is True and bad_sample


def test_samples_that_are_no_longer_those_that_were_noted_are_told(trained: Trained, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", trained.run.config, finished=False)
    (run.folder / "skipped").mkdir(parents=True)
    note = {"step": 1, "seed": 0, "broken": ["loss"], "samples_by_process": [[f"other-{i}" for i in range(8)]]}
    (run.folder / "skipped" / note_name(1)).write_text(json.dumps(note))
    assert replay(run, "finetune", Wishes()).same_samples is False


def test_two_processes_are_replayed_one_after_the_other(trained: Trained) -> None:
    found = replay(trained.run, "finetune", Wishes(3, processes=2))
    assert [len(share.samples) for mine in found.shares for share in mine] == [4, 4]
    assert [sample.process for mine in found.shares for share in mine for sample in share.samples] == [0] * 4 + [1] * 4
    assert (x_adv_of(found) - trained.x_adv[3]).abs().max() <= 2 * 4 / 255 and found.before.checkpoint is not None
    with pytest.raises(ConfigError, match="3 processes cannot have shared a batch of 8"):
        replay(trained.run, "finetune", Wishes(3, processes=3))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(trained: Trained, tmp_path: Path, capsys: Any) -> None:
    import shutil

    run = Run(Path(shutil.copytree(trained.run.folder, tmp_path / "run")), trained.run.config, finished=False)
    newest = run.checkpoints / "step=000004.ckpt"
    newest.write_bytes(newest.read_bytes()[:-100])
    found = replay(run, "finetune", Wishes(5))
    assert found.before.anew == 2 and "step=000004.ckpt is damaged" in capsys.readouterr().out
    assert torch.equal(x_adv_of(found), trained.x_adv[5])


def test_what_is_too_far_or_not_there_is_refused_in_a_line(trained: Trained) -> None:
    for wishes, reason in [
        (Wishes(4, retrain=0), "1 steps from step=000002.ckpt on .* at most 0 may; say --retrain 1, or a step up to 3"),
        (Wishes(6), "--step 6: the run has steps 1 to 5"),
        (Wishes(), "no step of .* was left out or stood out; name one"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            replay(trained.run, "finetune", wishes)


def test_gradients_are_asked_of_the_worst_samples_first(trained: Trained) -> None:
    found = replay(trained.run, "finetune", Wishes(3, gradients=3, worst=0))
    assert [sample.gradient_norm is not None for sample in found.samples] == [True] * 3 + [False] * 5


def test_of_a_step_that_stood_out_those_that_stand_out_are_to_blame() -> None:
    samples = [Sample(str(loss), 0, None, None, loss) for loss in (1.0, 2.0, 500.0)]
    assert [s.key for s in blamed(samples, {"ratio": 10, "median": 2.0})] == ["500.0"]
    assert blamed(samples, {"broken": ["loss"]}) == [] and blamed(samples, None) == []


def test_a_damaged_note_is_refused(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "spikes").mkdir()
    for content in ("{", "[]", '{"samples_by_process": 3}'):
        (tmp_path / "spikes" / note_name(2)).write_text(content)
        with pytest.raises(ConfigError, match="is damaged; delete it"):
            replay(Run(tmp_path, trained.run.config, finished=False), "finetune", Wishes())


def test_the_difference_is_grey_where_nothing_was_added_and_full_at_its_largest(tmp_path: Path) -> None:
    clean = torch.full((3, 4, 4), 0.5)
    perturbed = clean.clone()
    perturbed[0, 0, 0], perturbed[1, 1, 1] = 0.5 + 4 / 255, 0.5 - 2 / 255
    shown = difference(clean, perturbed)
    assert shown[2, 3, 3] == 0.5 and shown[0, 0, 0] == pytest.approx(1.0) and shown[1, 1, 1] == pytest.approx(0.25)
    perturbed[0, 2, 2] = float("nan")
    write_pictures(tmp_path / "images.png", [("\x1b[31mnäme", clean, perturbed)])
    with Image.open(tmp_path / "images.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert (255, 0, 255) in colours


Prior = Callable[..., Run]


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Prior:
    """(overrides) -> an opened run of a small prior."""
    folder = tmp_path_factory.mktemp("prior")
    embed(load_config("embed", "tiny", ["data.split=tune"]), folder / "embeddings")

    def opened(out: str, *overrides: str) -> Run:
        said = ["optimizer.max_steps=4", "optimizer.warmup_steps=1", "data.batch_size=16", "data.validation=0"]
        said += ["trainer.checkpoint_every=2", "trainer.keep=-1", "trainer.log_every=1", "trainer.accelerator=cpu"]
        said += [f"data.shards={folder / 'embeddings'}", *overrides]
        return open_run("prior", load_config("prior", "prior_tiny", said), folder / out)

    return opened


def test_a_step_of_a_prior_has_the_losses_of_the_training(prior: Prior) -> None:
    run = prior("whole", "network.attn_dropout=0.1", "network.ff_dropout=0.1")
    train_prior(run)
    for step, anew in ((3, 0), (4, 1), (1, 0)):
        found = replay(run, "prior", Wishes(step))
        assert found.loss == found.loss_in_training and found.before.anew == anew
        assert [sample.inner_start for sample in found.samples] == [None] * 16
        assert all((sample.gradient_norm or 0) > 0 for sample in found.samples) and not found.to_blame
        assert [file.name for file in found.folder.iterdir()] == ["record.json"]


def test_the_pair_that_broke_a_step_of_a_prior_is_found(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    original, keys = PriorTraining.loss_per_pair, list[str]()

    def loss_per_pair(self: Any, pairs: Any, position: int) -> Tensor:
        if position == 16 and not keys:
            keys.append(pairs.key[7])
        bad = torch.tensor([key in keys for key in pairs.key])
        return original(self, pairs, position) * torch.where(bad, float("nan"), 1.0)

    monkeypatch.setattr(PriorTraining, "loss_per_pair", loss_per_pair)
    run = prior("broken")
    train_prior(run)
    found = replay(run, "prior", Wishes())
    assert found.before.step == 2 and found.same_samples and [sample.key for sample in found.to_blame] == keys
