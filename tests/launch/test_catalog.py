"""``robustclip data catalog``, as typed."""

from __future__ import annotations

import json

import pytest

from tests.launch.typed import typed


def test_the_table_names_counts_and_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert typed(monkeypatch, "data", "catalog", "--protocol", "ttc") == 0
    told = capsys.readouterr().out
    assert "ttc/sun397" in told and "108,754" in told and "ClassName.txt" in told
    assert typed(monkeypatch, "data", "catalog", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["dataset"] for row in rows} >= {"fare/cifar10", "ttc/pcam", "robustbench/imagenet", "perceptual/nights"}


def test_one_data_set_is_told_with_its_line_of_a_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "data", "catalog", "robustbench/imagenet") == 0
    told = capsys.readouterr().out
    assert "tasks: {imagenet: {dataset: robustbench/imagenet, shards: FOLDER, ids: FILE}}" in told
    assert "installed package (open_clip.imagenet_names), sha256 8800e39242cb" in told
    assert typed(monkeypatch, "data", "catalog", "fare/cifar10") == 0
    assert "32 px, resized inside the model" in capsys.readouterr().out


def test_a_slip_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(monkeypatch, "data", "catalog", "fare/cifar") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "unknown data set 'fare/cifar'; choose one of: fare/cifar10" in said
