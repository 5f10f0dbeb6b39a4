"""An interrupted evaluation goes on, and refuses what is not its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from configs.files import ConfigError
from eval.harness import Evaluation, evaluate
from eval.plan import Plan
from eval.rows import Subject
from modules import noise
from modules.attacks.base import Search
from modules.defenses.random_noise import RandomNoise
from modules.encoders.clip import CLIP

Planned = Callable[..., Plan]
SUBJECT = Subject("CLIP", fingerprint="abc")
SETTINGS = ("defenses={noisy: {name: random_noise}}", "views=[adaptive, eot]", "batch_size=8", "examples=3")


class Watched(RandomNoise):
    """Remembers which images it saw; somebody may press Ctrl-C at a given look."""

    def __init__(self, *args: object, stop_at: int = -1) -> None:
        super().__init__(*args)  # pyright: ignore[reportArgumentType]
        self.keys: list[int] = []
        self.stop_at = stop_at

    def purify_pixels(self, x: Tensor) -> Tensor:
        scope = noise.scope()
        assert scope is not None
        if set(scope.keys.tolist()) - set(self.keys):
            self.keys += scope.keys.tolist()
        if len(self.keys) == self.stop_at:
            raise KeyboardInterrupt
        return super().purify_pixels(x)


def watched(plan: Plan, clip: CLIP, stop_at: int = -1) -> tuple[Plan, Watched]:
    defense = Watched(clip.image, stop_at=stop_at)
    return replace(plan, defend=lambda name, encoder, task: defense), defense


def numbers(found: Evaluation) -> list[object]:
    return [replace(row, seconds=0.0) for row in found.results]


@pytest.fixture
def stopped(clip: CLIP, planned: Planned, tmp_path: Path) -> Path:
    """The state of an evaluation that was interrupted in its second batch."""
    plan, _ = watched(planned(*SETTINGS), clip, stop_at=16)
    with pytest.raises(KeyboardInterrupt):
        evaluate(clip.image, plan, SUBJECT, state=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["digits-00000.json"]
    return tmp_path


def test_an_interrupted_evaluation_goes_on_to_the_same_numbers(clip: CLIP, planned: Planned, stopped: Path) -> None:
    once = evaluate(clip.image, planned(*SETTINGS), SUBJECT)
    again = evaluate(clip.image, planned(*SETTINGS), SUBJECT, state=stopped)
    assert numbers(again) == numbers(once)
    assert again.outcomes["digits"].correct == once.outcomes["digits"].correct
    assert [e.prediction_adversarial for e in again.examples] == [e.prediction_adversarial for e in once.examples]
    for name, value in once.examples[0].tensors.items():
        torch.testing.assert_close(again.examples[0].tensors[name], value)
    assert len(list(stopped.iterdir())) == 3


def test_a_finished_batch_is_not_judged_again(clip: CLIP, planned: Planned, stopped: Path) -> None:
    plan, spy = watched(planned(*SETTINGS[:3]), clip)
    file = stopped / "digits-00000.json"
    first = json.loads(file.read_text())
    reseal(file, lambda content: content.update(config=plan.hash))  # that of a plan without examples
    evaluate(clip.image, plan, SUBJECT, state=stopped)
    assert len(spy.keys) == 12
    assert not set(spy.keys) & set(noise.keys_of(first["keys"]).tolist())


def test_an_evaluation_that_is_over_is_only_read(clip: CLIP, planned: Planned, tmp_path: Path) -> None:
    plan = planned(*SETTINGS[:3])
    once = evaluate(clip.image, plan, SUBJECT, state=tmp_path)
    plan, spy = watched(plan, clip)
    assert evaluate(clip.image, plan, SUBJECT, state=tmp_path).results == once.results  # even the seconds
    assert spy.keys == []


def reseal(file: Path, change: Callable[[dict], object]) -> None:
    """Change a state file so that its checksum fits again."""
    content = json.loads(file.read_text())
    del content["digest"]
    change(content)
    digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()
    file.write_text(json.dumps({"digest": digest, **content}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("keys"), "is damaged"),
        (lambda c: c["cells"].update({'["other", "none", "none", 0.0]': value()}), "attacks of another plan"),
        (lambda c: c["cells"].update({'["noisy", "none", "none", 0.0]': value("01")}), "differ in number"),
        (lambda c: c.update(config="another"), "belongs to another config"),
        (lambda c: c.update(weights="another"), "belongs to another weights"),
        (lambda c: c["keys"].reverse(), "is about other images"),
    ],
)
def test_a_state_file_that_does_not_belong_is_named(
    change: Callable[[dict], object], said: str, clip: CLIP, planned: Planned, stopped: Path
) -> None:
    file = stopped / "digits-00000.json"
    reseal(file, change)
    with pytest.raises(ConfigError, match=said) as caught:
        evaluate(clip.image, planned(*SETTINGS), SUBJECT, state=stopped)
    assert str(file) in str(caught.value)
    assert "delete it" in str(caught.value)


def value(flags: str = "11111111") -> dict[str, object]:
    return {"correct": [flags], "seconds": 0, "notes": []}


def test_a_flag_changed_by_hand_is_named(clip: CLIP, planned: Planned, stopped: Path) -> None:
    file = stopped / "digits-00000.json"
    text = file.read_text()
    flags = json.loads(text)["cells"]['["noisy", "none", "none", 0.0]']["correct"][0]
    file.write_text(text.replace(flags, flags[::-1].replace("1", "0", 1), 1))
    with pytest.raises(ConfigError, match=r"checksum does not fit\); delete it"):
        evaluate(clip.image, planned(*SETTINGS), SUBJECT, state=stopped)


class Impatient:
    """Presses Ctrl-C after every so many cells."""

    def __init__(self, plan: Plan, patience: int) -> None:
        self.plan, self.patience, self.attacks = plan, patience, 0

    def run(self, clip: CLIP, state: Path) -> Evaluation | None:
        attack = self.plan.attacks["apgd"].attack
        before = attack._run

        def hurried(search: Search) -> None:
            self.attacks += 1
            if self.attacks % self.patience == 0:
                raise KeyboardInterrupt
            before(search)

        attack._run = hurried  # pyright: ignore[reportAttributeAccessIssue]
        try:
            return evaluate(clip.image, self.plan, SUBJECT, state=state)
        except KeyboardInterrupt:
            return None
        finally:
            del attack._run  # pyright: ignore[reportAttributeAccessIssue]


def test_twenty_interruptions_change_no_flag(
    clip: CLIP, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.harness.SAVE_EVERY", 0.0)  # as for attacks that take longer than a second
    settings = ("tasks.digits.limit=24", "batch_size=2", "views=[transfer, adaptive]", "cascade=view")
    once = evaluate(clip.image, planned(*settings), SUBJECT)
    impatient, interruptions = Impatient(planned(*settings), patience=3), 0
    while (found := impatient.run(clip, tmp_path)) is None:
        interruptions += 1
    assert interruptions >= 20
    assert found.outcomes["digits"].draws == once.outcomes["digits"].draws


def test_half_a_state_file_is_named(clip: CLIP, planned: Planned, stopped: Path) -> None:
    file = stopped / "digits-00000.json"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ConfigError, match=r"digits-00000\.json is damaged .*; delete it"):
        evaluate(clip.image, planned(*SETTINGS), SUBJECT, state=stopped)


def test_the_state_of_other_settings_or_weights_is_refused(clip: CLIP, planned: Planned, stopped: Path) -> None:
    with pytest.raises(ConfigError, match="another config"):
        evaluate(clip.image, planned(*SETTINGS, "seed=1"), SUBJECT, state=stopped)
    with pytest.raises(ConfigError, match="another weights"):
        evaluate(clip.image, planned(*SETTINGS), replace(SUBJECT, fingerprint="def"), state=stopped)
