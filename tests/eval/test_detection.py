"""What gates detect: rows against counting by hand, planted detectors, and what no row may depend on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from configs.files import ConfigError
from data.source import ArrayImages
from eval.detection import AUC, FALSE_ALARMS, RATE
from eval.evaluate import evaluate_checkpoint
from eval.harness import Evaluation, evaluate
from eval.merge import merge, shard_folder, shards_in
from eval.outcomes import Cell, read_outcomes
from eval.plan import Plan
from eval.results import WORST, Result, read_results
from eval.rows import Subject
from modules import noise
from modules.attacks.apgd import APGD
from modules.defenses.base import Defense
from modules.defenses.gates import cut_at
from modules.encoders.clip import CLIP
from tests.eval.test_harness_state import reseal
from tests.eval.test_merge import config
from tests.eval.toy_world import LOUD, THREAT, WHISPER, Reader, patterns, pictures, toy_plan

Planned = Callable[..., Plan]
GATES = (
    "defenses={none: {}, ttc: {steps: 0}, gate: {name: cosine_gate, fpr: 0.2}}",
    "views=[transfer, gate]",
    "tasks.digits.limit=20",
    "attacks={apgd: {steps: 2}}",
    "score_draws=2",
)


def value(found: Evaluation, metric: str, view: str, defense: str = "planted") -> float:
    (row,) = [r for r in found.results if (r.defense, r.metric, r.view) == (defense, metric, view)]
    return row.value


class Planted(Defense):
    """A detector whose score is given; who is flagged gets no answer."""

    rejects = True

    def __init__(self, encoder: Reader, opening: Callable[[Tensor], Tensor], /) -> None:
        super().__init__(encoder)
        self.opening = opening

    def gate(self, x: Tensor) -> Tensor:
        return self.opening(x)


def noise_in_blue(x: Tensor) -> Tensor:
    """[B] how noisy the blue channel is, beside the best fitting pattern and beyond what clean images have."""
    clean = 0.5 + LOUD * patterns("loud") + WHISPER * patterns("whisper")
    blue = x[:, 2].flatten(1)[:, None] - clean[:, :64]
    return 10 * (blue.square().mean(dim=2).sqrt().amin(dim=1) - 0.0145)


def tuning() -> ArrayImages:
    """Other pictures of the same kind."""
    generator = torch.Generator().manual_seed(5)
    y = torch.arange(120) % 6
    x = 0.5 + LOUD * patterns("loud")[y] + WHISPER * patterns("whisper")[y]
    x = x + 0.02 * (2 * torch.rand(x.shape, generator=generator) - 1)
    pixels = (255 * x).round().to(torch.uint8).view(-1, 3, 8, 8).permute(0, 2, 3, 1)
    return ArrayImages(pixels.numpy(), y.numpy(), [f"other {i}" for i in range(120)], classes=pictures().classes)


def judged(opening: Callable[[Tensor], Tensor], *settings: str) -> Evaluation:
    reader = Reader("whisper")
    reader.freeze()
    apgd = APGD(THREAT, steps=20)
    plan = toy_plan(reader, Planted(reader, opening), "views=[transfer, adaptive, gate]", *settings, apgd=apgd)
    plan.tasks[0].tuning = tuning()
    return evaluate(reader, plan, Subject("toy"), quiet=True)


def test_a_detector_of_noise_is_evaded_by_who_knows_it() -> None:
    """The planted fault: it looks at what an attack need not touch."""
    found = judged(noise_in_blue)
    assert value(found, AUC, "transfer") == value(found, AUC, "adaptive") == 1
    assert value(found, "detection_tpr_at_fpr5", "transfer") == 1
    assert value(found, "robust_accuracy_with_rejection", "transfer") > 0.9
    assert value(found, AUC, "gate") < 0.8
    assert value(found, RATE, "gate") < 0.1
    assert value(found, "robust_accuracy_with_rejection", "gate") < 0.1
    for metric in (AUC, RATE, "robust_accuracy_with_rejection"):
        assert value(found, metric, WORST) == value(found, metric, "gate")
    assert value(found, "robust_accuracy", "gate") < 0.1  # flags are no outcomes: the reader itself falls anyway


def test_a_constant_detector_detects_nothing() -> None:
    found = judged(lambda x: x.flatten(1).sum(dim=1) * 0 - 1)
    assert {r.value for r in found.results if r.metric == AUC} == {0.5}
    assert {r.value for r in found.results if r.metric.startswith(("detection_rate", "detection_tpr"))} == {0}
    for view in ("transfer", "gate"):
        refusing = value(found, "robust_accuracy_with_rejection", view)
        assert refusing == value(found, "robust_accuracy", view)


def test_flagging_everything_keeps_nothing() -> None:
    found = judged(lambda x: x.flatten(1).sum(dim=1) * 0 + 1)
    assert value(found, RATE, WORST) == 1
    assert value(found, "clean_accuracy_with_rejection", "none") == 0
    assert value(found, "robust_accuracy_with_rejection", WORST) == 0  # right clean is a part of it


def test_a_perfect_detector_keeps_all_that_is_right_clean() -> None:
    """It knows the clean images by heart."""
    reader = Reader("whisper")
    own = next(iter(toy_plan(reader, Planted(reader, noise_in_blue)).tasks[0].batches(120))).x.flatten(1)
    found = judged(lambda x: (x.flatten(1)[:, None] - own).abs().amax(dim=2).amin(dim=1) - 1e-3)
    for view in ("transfer", "adaptive", "gate", WORST):
        assert value(found, AUC, view) == value(found, RATE, view) == 1
        clean = value(found, "clean_accuracy", "none")
        assert value(found, "robust_accuracy_with_rejection", view) == clean


def test_thresholds_hold_on_fresh_clean_images() -> None:
    found = judged(noise_in_blue)
    for percent, expected in (("1", 0.01), ("5", 0.05)):
        measured = value(found, f"{FALSE_ALARMS}_at_fpr{percent}", "none")
        assert measured <= expected + 3 * (expected / 120) ** 0.5


def test_rows_are_those_of_counting_by_hand(clip: CLIP, planned: Planned) -> None:
    plan = planned(*GATES)
    found = evaluate(clip.image, plan, Subject("CLIP"), quiet=True)
    outcomes = found.outcomes["digits"]
    assert {cell.defense for cell in outcomes.scores} == {"ttc", "gate"}
    for name in ("ttc", "gate"):
        clean, right = [s for s in outcomes.scores[Cell(name)] if s is not None], outcomes.draws[Cell(name)][0]
        assert len(clean) == 20
        accepted = [r and s <= 0 for r, s in zip(right, clean, strict=True)]
        assert value(found, "clean_accuracy_with_rejection", "none", name) == pytest.approx(sum(accepted) / 20)
        together = accepted
        for view in ("transfer", "gate"):
            cell = Cell(name, "apgd", view, plan.threat.eps)
            changed = [score for score in outcomes.scores[cell] if score is not None]
            pairs = [(a > c) + 0.5 * (a == c) for a in changed for c in clean]
            assert value(found, AUC, view, name) == pytest.approx(sum(pairs) / len(pairs))
            assert value(found, RATE, view, name) == pytest.approx(sum(s > 0 for s in changed) / len(changed))
            held = [
                ok and (score is None or score > 0 or still)
                for ok, score, still in zip(accepted, outcomes.scores[cell], outcomes.draws[cell][0], strict=True)
            ]
            refusing = value(found, "robust_accuracy_with_rejection", view, name)
            assert refusing == pytest.approx(sum(held) / 20)
            together = [a and b for a, b in zip(together, held, strict=True)]
        assert value(found, "robust_accuracy_with_rejection", WORST, name) == pytest.approx(sum(together) / 20)
        lowest = min(value(found, AUC, view, name) for view in ("transfer", "gate"))
        assert value(found, AUC, WORST, name) == lowest


def test_clean_scores_are_the_gates_own_on_noise_no_attacker_saw(clip: CLIP, planned: Planned) -> None:
    plan = planned(*GATES)
    outcomes = evaluate(clip.image, plan, Subject("CLIP"), quiet=True).outcomes["digits"]
    ttc = plan.defend("ttc", clip.image, plan.tasks[0])
    (batch,) = plan.tasks[0].batches(20)
    with torch.no_grad(), noise.samples(noise.keys_of(batch.key), draw=1_000_003):
        opening = ttc.gate(batch.x)
    assert opening is not None
    assert outcomes.scores[Cell("ttc")] == pytest.approx(opening.tolist(), rel=1e-4, abs=1e-5)


def test_no_score_depends_on_the_batch_size(clip: CLIP, planned: Planned) -> None:
    one, other = (
        evaluate(clip.image, planned(*GATES, f"batch_size={size}"), Subject("CLIP"), quiet=True) for size in (20, 7)
    )
    for cell, scores in one.outcomes["digits"].scores.items():
        others = other.outcomes["digits"].scores[cell]
        assert [s is None for s in scores] == [s is None for s in others]
        if cell.view == "none":
            assert scores == pytest.approx(others, rel=1e-3, abs=1e-4)
    assert one.outcomes["digits"].draws == other.outcomes["digits"].draws


def test_without_a_gate_nothing_is_added(clip: CLIP, planned: Planned) -> None:
    gated = evaluate(clip.image, planned(*GATES), Subject("CLIP"), quiet=True)
    bare = evaluate(clip.image, planned(*GATES, "defenses={none: {}}"), Subject("CLIP"), quiet=True)

    def plain(rows: list[Result]) -> list[Result]:
        return [replace(row, seconds=0.0, config="") for row in rows if row.defense == "none"]

    assert plain(gated.results) == plain(bare.results)
    assert not any("detection" in row.metric or "rejection" in row.metric for row in bare.results)
    assert bare.outcomes["digits"].scores == {}


def test_without_a_radius_nothing_was_attacked(clip: CLIP, planned: Planned) -> None:
    found = evaluate(clip.image, planned(*GATES, "threat.eps=0"), Subject("CLIP"), quiet=True)
    assert not any(row.metric == AUC for row in found.results)
    for name in ("ttc", "gate"):
        kept = value(found, "robust_accuracy_with_rejection", WORST, name)
        assert kept == value(found, "clean_accuracy_with_rejection", "none", name)


def test_a_cascade_leaves_no_refused_image_out() -> None:
    """An image that was wrong but flagged has not fallen: later attacks of the view still try it."""
    none, view = (judged(noise_in_blue, f"cascade={name}") for name in ("none", "view"))
    assert view.outcomes["toy"].scores == none.outcomes["toy"].scores
    assert not any(row.cumulative for row in view.results if row.defense == "planted")


def test_a_worst_case_names_the_lowest_row_with_its_interval() -> None:
    rows = judged(noise_in_blue).results
    (worst,) = [row for row in rows if (row.metric, row.view) == (AUC, WORST)]
    (gate,) = [row for row in rows if (row.metric, row.view) == (AUC, "gate")]
    assert replace(worst, attack=gate.attack, view=gate.view) == gate


def test_shards_are_the_whole_scores_too(tmp_path: Path) -> None:
    said = ("model.name=tiny", *GATES)
    evaluate_checkpoint(config(*said), tmp_path / "whole")
    for number in (1, 2):
        evaluate_checkpoint(config(*said), shard_folder(tmp_path, number, 2), shard=(number, 2))
    joined = merge(shards_in(tmp_path), tmp_path / "joined")
    rows, parts = (read_results(folder / "results.jsonl") for folder in (tmp_path / "whole", joined))
    assert [row.key for row in rows] == [row.key for row in parts]
    assert [row.value for row in rows] == pytest.approx([row.value for row in parts])
    old = shard_folder(tmp_path, 2, 2) / "outcomes-digits.json"
    reseal(old, lambda content: [cell.pop("scores", None) for cell in content["cells"].values()])
    with pytest.raises(ConfigError, match="holds no scores of gates, others do; delete its shard") as caught:
        merge(shards_in(tmp_path), tmp_path / "again")
    assert str(old) in str(caught.value)


def test_scores_survive_their_file_and_odd_ones_are_named(clip: CLIP, planned: Planned, tmp_path: Path) -> None:
    subject, plan = Subject("CLIP", fingerprint="abc"), planned(*GATES)
    once = evaluate(clip.image, plan, subject, state=tmp_path, quiet=True)
    (file,) = tmp_path.iterdir()
    assert read_outcomes(file).scores == once.outcomes["digits"].scores
    assert evaluate(clip.image, plan, subject, state=tmp_path, quiet=True).results == once.results
    cell = str(Cell("ttc"))
    reseal(file, lambda content: content["cells"][cell]["scores"].pop())
    with pytest.raises(ConfigError, match="flags or scores and keys differ in number"):
        evaluate(clip.image, plan, subject, state=tmp_path, quiet=True)


def test_state_of_a_version_without_scores_is_judged_again_where_there_is_a_gate(
    clip: CLIP, planned: Planned, tmp_path: Path
) -> None:
    subject, plan = Subject("CLIP", fingerprint="abc"), planned(*GATES)
    once = evaluate(clip.image, plan, subject, state=tmp_path, quiet=True)
    (file,) = tmp_path.iterdir()

    def older(content: dict) -> None:
        for cell in content["cells"].values():
            cell.pop("scores", None)
            cell["seconds"] = 1000.0

    reseal(file, older)
    again = evaluate(clip.image, plan, subject, state=tmp_path, quiet=True)
    assert [replace(row, seconds=0.0) for row in again.results] == [replace(row, seconds=0.0) for row in once.results]
    kept = {row.defense for row in again.results if row.seconds >= 1000}
    assert kept == {"none"}
    assert "scores" in json.loads(file.read_text())["cells"][str(Cell("ttc"))]


def test_a_gate_that_returns_nonsense_is_named() -> None:
    with pytest.raises(ValueError, match=r"Planted: has a gate that returned \[120\], not 120 finite numbers"):
        judged(lambda x: x.flatten(1).sum(dim=1) / 0, "views=[transfer]")


def test_a_small_tuning_split_gives_the_rates_that_it_can() -> None:
    assert cut_at(0.01, torch.zeros(20)) is None
    reader = Reader("whisper")
    plan = toy_plan(reader, Planted(reader, noise_in_blue), "views=[transfer]", apgd=APGD(THREAT, steps=2))
    found = evaluate(reader, plan, Subject("toy"), quiet=True)  # no tuning split at all
    assert {row.metric for row in found.results if row.defense == "planted" and row.view == "transfer"} == {
        *("robust_accuracy", AUC, RATE, "robust_accuracy_with_rejection")
    }
