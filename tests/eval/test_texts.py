"""Text towers are asked once for all tasks, rungs and evaluations of a process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from configs.files import ConfigError
from configs.load import load_config
from eval.plan import Plan
from eval.tasks.classification import ClassificationTask
from eval.texts import blank_prompt, text_memory
from eval.tuning import tune_defense
from modules.encoders.clip import CLIP, TextEncoder
from modules.zero_shot import class_embeddings


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """All texts that towers encode from now on, with an empty memory."""
    monkeypatch.setenv("ROBUSTCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ROBUSTCLIP_TEXT_CACHE", raising=False)
    texts: list[str] = []
    tokenize = TextEncoder.tokenize

    def watched(self: TextEncoder, asked: list[str]) -> torch.Tensor:
        texts.extend(asked)
        return tokenize(self, asked)

    monkeypatch.setattr(TextEncoder, "tokenize", watched)
    return texts


PROMPTS = 60 + 6 + 1 + 1 + 2  # ten digits in six templates, no digit in them, the blank prompt twice, a tower's name


def task_of(plan: Plan, number: int) -> ClassificationTask:
    return ClassificationTask.of(plan.tasks[number])


def test_several_tasks_and_evaluations_encode_their_texts_once(
    planned: Callable[..., Plan], encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = "tasks={one: {shards: digits, limit: 8}, two: {shards: digits, split: tune, limit: 8, tune_split: train}}"
    plan = planned(twice)
    assert len(encoded) == PROMPTS
    assert torch.equal(task_of(plan, 0).head.weights, task_of(plan, 1).head.weights)
    again = planned("tasks.digits.limit=8")
    assert len(encoded) == PROMPTS
    monkeypatch.setenv("ROBUSTCLIP_TEXT_CACHE", "off")
    anew = planned("tasks.digits.limit=8")
    assert len(encoded) == 2 * PROMPTS - 2
    assert torch.equal(task_of(anew, 0).head.weights, task_of(again, 0).head.weights)
    assert torch.equal(task_of(anew, 0).blank, task_of(again, 0).blank)


def test_the_blank_prompt_is_remembered_as_it_is_read(clip: CLIP, encoded: list[str]) -> None:
    assert clip.text is not None
    first, second = (blank_prompt(clip.text, "a photo of a.") for _ in range(2))
    assert encoded.count("a photo of a.") == 2
    assert torch.equal(first[0], clip.text.encode_text(["a photo of a."])[0]) and torch.equal(first[0], second[0])
    assert torch.equal(first[1], clip.text.token_states(["a photo of a."])) and torch.equal(first[1], second[1])


@pytest.mark.slow
def test_a_tuning_encodes_its_texts_once(encoded: list[str], tmp_path: Path) -> None:
    attack = "attacks: {pgd: {steps: 1, views: [transfer]}}"
    few = [
        "search={steps: [1, 2]}",
        f"rungs={{sieve: {{limit: 6, {attack}, keep: 2}}, final: {{limit: 8, {attack}}}}}",
        f"report={{limit: 8, {attack}}}",
        "score_draws=1",
    ]
    config = load_config("tune", "ttc_tiny", few)
    tune_defense(config, tmp_path / "tuned", quiet=True)
    assert len(config.rungs) == 2 and len(encoded) == PROMPTS


def test_many_texts_are_read_from_the_users_cache_by_the_next_process(
    clip: CLIP, encoded: list[str], tmp_path: Path
) -> None:
    assert clip.text is not None
    classes, templates = [f"thing {i}" for i in range(100)], [f"view {i} of a {{}}" for i in range(10)]
    first = class_embeddings(clip.text, classes, templates, memory=text_memory())
    (file,) = (tmp_path / "cache" / "texts").iterdir()
    from eval import texts

    texts._memory.cache_clear()  # as a new process
    before = len(encoded)
    again = class_embeddings(clip.text, classes, templates, memory=text_memory())
    assert torch.equal(first, again) and len(encoded) == before + 2
    assert file.stat().st_size < 100_000


def test_a_switch_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTCLIP_TEXT_CACHE", "maybe")
    with pytest.raises(ConfigError, match="ROBUSTCLIP_TEXT_CACHE=maybe means nothing; say on or off"):
        text_memory()
