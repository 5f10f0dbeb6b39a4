"""Each protocol from the command line to its tables, on data sets laid out as the real ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configs.files import ConfigError
from eval.protocols.record import Record, read_record
from eval.results import read_results
from launch.cli import app
from launch.protocols import run_protocol
from tests.data.benchmarks.test_opening import CIFAR10, clip_benchmark
from tests.data.layouts import miniatures as small

STL10 = (Path(__file__).parents[2] / "data/benchmarks/names/stl10.txt").read_text().split()
FEW = ("allow_count_mismatch=true", "batch_size=8")
WEAK = ("attacks.autoattack.steps=1",)
BRIEF = ("adaptive.eot_draws=2", "score_draws=2", "adaptive.score_draws=2", "adaptive.probes=2", "adaptive.limit=2")
OURS = tuple(f"adaptive.attacks.{setting}" for setting in ("apgd_ce.steps=1", "apgd_t.steps=1", "square.queries=2"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """clip_benchmark's folders, as the hub has them and as plain ones."""
    root = tmp_path / "data"
    clip_benchmark(root / "wds_vtab-cifar10", CIFAR10, labels=(0, 1, 2, 3, 4, 5))
    clip_benchmark(root / "pcam", ["healthy", "tumour"], ["a {c}", "the {c}"], side=96, labels=(0, 1, 0, 1))
    return root


def judged(protocol: str, where: Path, out: Path, *overrides: str, model: str = "tiny") -> Record:
    run_protocol(model, protocol, [f"data={where}", *FEW, *overrides], out, dry_run=False, command="typed")
    return read_record(out)


def values(record: Record, **wanted: object) -> dict[str, int]:
    """Images behind each column of the lines that fit."""
    lines = [one for one in record.lines if all(getattr(one, key) == value for key, value in wanted.items())]
    return {one.column: one.n for one in lines}


def test_fare_end_to_end(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ("only=cifar10,pcam", "eps=4", "attacked=3", *WEAK, "sets.pcam.attacks.autoattack.steps=1")
    record = judged("fare-2024", data, tmp_path / "run", *said)
    shown = capsys.readouterr().out
    assert values(record, dataset="cifar10") == {"clean": 6, "clean_attacked": 3, "autoattack": 3, "worst": 3}
    assert values(record, dataset="average")["clean"] == 10
    assert "The average is over 2 of 13 sets; missing: stl10, cifar100" in shown
    assert "not as the protocol has it" in shown and "which 1,000 images of each set were attacked" in shown
    average = next(one for one in record.lines if (one.dataset, one.column) == ("average", "clean"))
    single = [one.value for one in record.lines if one.dataset != "average" and one.column == "clean"]
    assert average.value == pytest.approx(sum(single) / 2) and average.published == []
    rows = read_results(tmp_path / "run/results.jsonl")
    assert {row.protocol for row in rows} == {record.label} and record.label.startswith("fare-2024@")
    assert {(row.dataset, row.resolution) for row in rows} == {("cifar10", 32), ("pcam", 32)}
    assert len((tmp_path / "run/ids-zero_shot-cifar10.txt").read_text().split()) == 3
    page = (tmp_path / "run/report/index.html").read_text()
    assert 'id="protocols"' in page and "Protocols</a>" in page and "zero_shot · ℓ∞ 4/255" in page
    table = list(csv.DictReader((tmp_path / "run/protocol.csv").read_text().splitlines()))
    assert len(table) == len(record.lines) and {line["published"] for line in table} == {""}
    assert json.loads((tmp_path / "run/protocol.json").read_text())["unknown"] == record.unknown


@pytest.mark.slow
def test_robustbench_takes_the_users_list_and_two_norms(data: Path, tmp_path: Path) -> None:
    record = judged(
        "robustbench", data, tmp_path / "run", "only=cifar10", "limit=2", *WEAK, "attacks.autoattack.queries=2"
    )
    assert {(one.part, one.norm, round(one.eps, 4)) for one in record.lines} == {
        ("cifar10", "linf", 0.0314),
        ("cifar10_l2", "l2", 0.5),
    }
    assert all(one.published == [] for one in record.lines)


@pytest.mark.slow
def test_ttc_end_to_end_has_the_adaptive_column_and_the_health_of_gradients(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    small.cifar10_binary(root, small.pixels(4, 32), [0, 1, 2, 3], CIFAR10)
    small.stl10(root, small.pixels(3, 96), [0, 1, 2], STL10)
    weak = (*WEAK, "attacks.pgd.steps=1", "attacks.cw.steps=1")
    record = judged("ttc-2025", root, tmp_path / "run", "skip_missing=true", "eps=4", *weak, *BRIEF, *OURS)
    columns = {"clean": 4, "pgd": 4, "cw": 4, "autoattack": 4, "worst": 4, "worst_adaptive": 2}
    assert values(record, dataset="cifar10", defense="ttc") == columns
    examined = {(one.dataset, one.defense): one.examined for one in record.doubts}
    assert examined == {("cifar10", "ttc"): True, ("stl10", "ttc"): True}
    assert "few_images" in {doubt[0] for one in record.doubts for doubt in one.doubts}
    shown = capsys.readouterr().out
    assert "adaptive" in shown and "gradient" in shown
    assert [one[1] for one in record.missing][:2] == ["cifar100", "imagenet"]


@pytest.mark.slow
def test_clipure_end_to_end_is_an_artefact_and_a_red_doubt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from data.benchmarks.registry import entry

    names = ["n01440764", "n01443537", "n01484850"]
    small.class_folders(tmp_path / "data/imagenet/val", names)
    few = replace(
        entry("robustbench/imagenet"),
        folders="",
        names=replace(entry("robustbench/imagenet").names, origin="dataset", sha256=""),
    )
    for place in ("eval.tasks.benchmarks.entry", "eval.protocols.places.entry"):
        monkeypatch.setattr(place, lambda _: few)
    small.lines(tmp_path / "ids.txt", [f"{name}/{name}_0.JPEG" for name in names])
    said = (f"ids={tmp_path / 'ids.txt'}", *WEAK, *BRIEF, *OURS)
    record = judged("clipure-2025", tmp_path / "data", tmp_path / "run", *said)
    shown = capsys.readouterr().out
    assert {one.view for one in record.lines if one.defense == "clipure_cos" and one.column == "autoattack"} == {
        "released"
    }
    (doubts,) = record.doubts
    assert "artefact" in {doubt[0] for doubt in doubts.doubts} and doubts.examined
    assert "CLIPure on imagenet: 72.6 %" in " ".join(shown.split())
    assert not any(one.published for one in record.lines)


@pytest.mark.slow
def test_the_scorecard_runs_a_part_and_any_defence(data: Path, tmp_path: Path) -> None:
    said = ("only=cifar10", "eps=2", "limit=2", *WEAK, "attacks.autoattack.queries=2", *BRIEF, *OURS)
    record = judged("robustclip-scorecard", data, tmp_path / "run", *said, "defenses.random_noise={}")
    assert "worst_adaptive" in values(record, defense="random_noise", dataset="cifar10")
    assert record.changed


@pytest.mark.slow
def test_shards_are_joined_and_say_the_same_as_the_whole(data: Path, tmp_path: Path) -> None:
    from launch.evaluation import run_report

    said = [f"data={data}", *FEW, "only=cifar10", "eps=4", "attacked=4", *WEAK]
    for shard in ("2/2", "1/2"):
        run_protocol("tiny", "fare-2024", said, tmp_path / "parts", dry_run=False, command="", shard=shard)
    run_report([tmp_path / "parts"], None)
    whole = judged("fare-2024", data, tmp_path / "whole", *said[3:])
    assert read_record(tmp_path / "parts").lines == whole.lines
    with pytest.raises(ConfigError, match="holds another run"):
        run_protocol("tiny", "fare-2024", [*said, "seed=1"], tmp_path / "parts", dry_run=False, command="", shard="1/2")


def test_all_faults_are_told_before_anything_starts(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run_protocol("Vit-Q", "fare-2024", [f"data={data}"], tmp_path / "run", dry_run=False, command="")
    lines = str(caught.value).splitlines()
    assert "Vit-Q" in lines[0] and len(lines) == 1 + 14 + 1
    assert not (tmp_path / "run").exists()


def test_a_dry_run_shows_the_evaluations_and_judges_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [f"data={data}", "allow_count_mismatch=true", "skip_missing=true"]
    run_protocol("tiny", "ttc-2025", [*said, "only=pcam"], tmp_path / "run", dry_run=True, command="")
    shown = capsys.readouterr().out
    assert "Unknown" in shown and not (tmp_path / "run").exists()


def test_the_list_names_every_protocol_and_what_nobody_knows() -> None:
    shown = " ".join(CliRunner().invoke(app, ["evaluate", "--list-protocols"]).output.split())
    for told in ("fare-2024", "ttc-2025", "clipure-2025", "robustbench", "robustclip-scorecard", "all clean, 1,000"):
        assert told in shown
    assert "ℓ2 0.5" in shown and "unknown" in shown and "cannot be recovered" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a checkpoint or a model"),
        (["tiny"], "name a recipe, such as digits, or a protocol"),
        (["tiny", "digits", "--protocol", "fare-2024"], "leave out the recipe 'digits'"),
        (["tiny", "--protocol", "fare-2023"], "unknown protocol recipe 'fare-2023'; choose one of: fare-2024"),
    ],
)
def test_a_wrong_command_is_told_in_a_line(words: list[str], told: str) -> None:
    assert told in str(CliRunner().invoke(app, ["evaluate", *words]).exception)
