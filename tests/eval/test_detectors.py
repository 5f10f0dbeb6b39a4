"""Detectors in words, in the terminal and on the page: the worst case is named, and nothing is claimed beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.detection import AUC, FALSE_ALARMS, RATE, rate_at
from eval.detectors import detection_table, detectors, in_words, without_detection
from eval.evaluate import evaluate_checkpoint
from eval.report import build_report
from eval.results import Result
from tests.eval.test_merge import config


def row(metric: str, value: float, attack: str = "apgd", view: str = "transfer", **other: Any) -> Result:
    said = {"encoder": "CLIP", "defense": "gate", "step": 0, "artefact": ""} | other
    clean = attack == "none"
    return Result(
        *("classification", "digits", 100, "file", said["step"], said["encoder"], said["defense"], attack, view),
        *("none" if clean else "linf", 0.0 if clean else 4 / 255, metric, value, value - 0.04, value + 0.04),
        *(0.0, 0, "c0ffee", said["artefact"]),
    )


def measured(views: dict[str, float], **other: Any) -> list[Result]:
    rows = [row("clean_accuracy", 0.96, "none", "none", **other), row("robust_accuracy", 0.1, **other)]
    rows += [row(m, 0.06, "none", "none", **other) for m in (FALSE_ALARMS, f"{FALSE_ALARMS}_at_fpr5")]
    rows.append(row("clean_accuracy_with_rejection", 0.9, "none", "none", **other))
    for view, auc in views.items():
        rows += [row(AUC, auc, view=view, **other), row(RATE, auc / 2, view=view, **other)]
        rows += [row(rate_at("5"), auc / 3, view=view, **other)]
        rows += [row("robust_accuracy_with_rejection", auc / 4, view=view, **other)]
    lowest = min(views.values())
    rows += [row(AUC, lowest, "worst", "worst", **other)]
    return [*rows, row("robust_accuracy_with_rejection", 0.125, "worst", "worst", **other)]


def test_the_words_name_the_attack_and_view_of_the_worst_case() -> None:
    (found,) = detectors(measured({"transfer": 0.9, "gate": 0.5, "adaptive": 0.7}))
    text = " ".join(in_words(found))
    assert "attacked past the gate are told from clean ones with an AUC of 0.90 (0.86–0.94)" in text
    assert "lowest AUC is 0.50 (0.46–0.54), of apgd through the gate view: no better than chance." in text
    assert "flags as little as 16.7 % of attacked images (30.0 % past the gate): apgd through the gate view" in text
    assert "90.0 % of the clean images get a right one, and 12.5 % also stay right or are refused" in text
    assert found.caution == "" and "no statement" not in text


def test_without_an_attacker_who_knows_the_gate_nothing_is_claimed() -> None:
    (found,) = detectors(measured({"transfer": 0.9, "adaptive": 0.8}))
    assert found.caution == "nobody kept the gate shut"
    assert "no statement about an attacker who knows the gate" in in_words(found)[-1]


def test_a_detector_that_prefers_attacked_images_is_told() -> None:
    (found,) = detectors(measured({"transfer": 0.9, "gate": 0.2}))
    assert "attacked images look cleaner than clean ones" in " ".join(in_words(found))


def test_only_the_last_step_counts() -> None:
    rows = measured({"gate": 0.9}, step=100) + measured({"gate": 0.6}, step=200)
    (found,) = detectors(rows)
    assert found.step == 200 and found.worst.auc is not None and found.worst.auc.value == 0.6


def shown(rows: list[Result]) -> str:
    console = Console(width=80, record=True, force_terminal=False)
    table = detection_table(rows)
    assert table is not None
    console.print(table)
    return console.export_text()


def test_the_terminal_table_fits_names_every_view_and_is_inert() -> None:
    text = shown(measured({"transfer": 0.9, "gate": 0.5}, encoder="CL\x1b[31mIP"))
    assert "\x1b" not in text and "CLIP + gate" in text
    for told in ("transfer", "gate", "worst", "0.50 0.46–0.54", "12.5"):
        assert told in text
    assert max(map(len, text.splitlines())) <= 80
    assert "! nobody kept the gate" in shown(measured({"transfer": 0.9}))


def test_rows_without_gates_give_no_table() -> None:
    rows = without_detection(measured({"gate": 0.5}))
    assert {r.metric for r in rows} == {"clean_accuracy", "robust_accuracy"}
    assert detectors(rows) == [] and detection_table(rows) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    said = ("defenses={none: {}, gate: {name: cosine_gate, fpr: 0.2}}", "views=[transfer, gate]", "examples=0")
    evaluate_checkpoint(config("model.name=tiny", *said, "batch_size=20"), out)
    return out


def test_the_page_has_curves_histogram_table_and_words(run: Path, tmp_path: Path) -> None:
    page = build_report([run], tmp_path / "one").read_text()
    section = page[page.index('<section id="detection">') :]
    section = section[: section.index("</section>")]
    assert section.count("<svg") == 2 and "ROC curves" in section and "Histogram of clean and attacked" in section
    for told in ("CLIP + gate", "The lowest AUC is", "worst case", "clean images", "flagged<br>at 5 %"):
        assert told in section
    assert "detection_auc" not in page  # told once, not among the further measurements again
    assert build_report([run], tmp_path / "two").read_text() == page


def test_a_run_without_single_scores_keeps_its_table(run: Path, tmp_path: Path) -> None:
    for name in ("results.jsonl", "config.yaml", "env.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    page = build_report([tmp_path], tmp_path / "report").read_text()
    section = page[page.index('<section id="detection">') :]
    section = section[: section.index("</section>")]
    assert "<svg" not in section and "The lowest AUC is" in section


def test_a_page_without_gates_has_no_section(tmp_path: Path) -> None:
    evaluate_checkpoint(config("model.name=tiny", "defenses={none: {}}", "examples=0", "batch_size=20"), tmp_path)
    assert 'id="detection"' not in build_report([tmp_path], tmp_path / "report").read_text()
