"""From a model's name to a checked request: the nearest recipe, with what is ours labelled."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from configs.files import ConfigError
from configs.load import check_config, load_config, plain, recipe_names
from launch import cli
from launch.robustify.request import Request, read_request
from launch.robustify.tuned import recipe_text, tuned_recipe, with_body, with_took
from train.runs import is_of, open_run


def asked(model: str, *words: str, quick: bool = False, budget: str | None = None) -> Request:
    place = [] if model == "tiny" else ["data=shards", "test=val"]
    return read_request(model, [*words, *place], quick=quick, budget=budget)


@pytest.mark.parametrize("name", [n for n in recipe_names("finetune") if n.startswith(("fare_", "tecoa_"))])
def test_a_model_that_has_a_recipe_gets_it_unchanged(name: str) -> None:
    own = load_config("finetune", name, ["data.shards=x"])
    tuned = tuned_recipe(
        own.model.name,
        own.model.pretrained or None,
        objective=own.objective["name"],
        eps=round(255 * own.threat.eps, 6),
    )
    config = check_config("finetune", {**tuned.said, "data": {**tuned.said["data"], "shards": "x"}})
    assert tuned.origin == name
    assert plain(config) == {**plain(own), "evaluation": None}
    assert own.model.name == "tiny" or tuned.ours == []


@pytest.mark.parametrize(
    ("model", "tag", "eps", "origin", "ours"),
    [
        ("ViT-L-14", None, 2, "fare_vit_l14_eps2", []),
        ("ViT-L-14", None, 3, "fare_vit_l14_eps2", ["steps of 0.75/255"]),
        ("ViT-L-14", None, 8, "fare_vit_l14_eps4", ["steps of 2/255"]),
        ("ViT-L-14", "laion2b_s32b_b82k", 4, "fare_vit_l14_eps4", ["the weights laion2b_s32b_b82k"]),
        ("ViT-H-14", "laion2b_s32b_b79k", 2, "fare_vit_h14_eps2", []),
        ("ViT-H-14-quickgelu", "dfn5b", 4, "fare_vit_h14_eps2", ["takes the settings of ViT-H-14"]),
        ("ViT-B-16-SigLIP", "webli", 4, "fare_vit_l14_eps4", ["takes the settings of ViT-L-14"]),
        ("tiny", None, 4, "fare_tiny_eps4", ["all settings", "no evaluation"]),
    ],
)
def test_the_nearest_recipe_is_taken_and_what_differs_is_said(
    model: str, tag: str | None, eps: float, origin: str, ours: list[str]
) -> None:
    tuned = tuned_recipe(model, tag, objective="fare", eps=eps)
    assert tuned.origin == origin and len(tuned.ours) == len(ours)
    assert all(told in line for told, line in zip(ours, tuned.ours, strict=True))


def test_another_radius_is_another_radius() -> None:
    request = asked("ViT-L-14", "eps=8")
    assert request.finetune.threat.eps == request.config.base.threat.eps == 8 / 255
    assert request.finetune.attack["step_size"] == 2 / 255


def test_the_written_recipe_is_what_was_checked(tmp_path: Path) -> None:
    request = asked("ViT-H-14", "lr=2e-5", "eps=3")
    text = with_took(recipe_text(request.tuned, cost="1e19 FLOPs"), "5 h")
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    assert load_config("finetune", str(file)) == request.finetune
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert "# cost: 1e19 FLOPs." in text and "# took: 5 h" in comment and any("ours:" in line for line in comment)
    assert yaml.safe_load(text)["optimizer"] == {
        "lr": 2e-5,
        "weight_decay": 1e-4,
        "warmup_steps": 700,
        "max_steps": 10000,
    }


def test_base_and_result_are_judged_on_all_images_alike() -> None:
    base = asked("ViT-L-14", "openai", "scorecard.data.limit=50", "scorecard.eps=4").config.base
    assert (base.stop_width, base.data.limit, base.data.shards) == (0.0, 50, "val")
    assert base.encoder == "ViT-L-14 openai"
    embedded = read_request("tiny", ["scorecard.data.limit=8"], quick=False, budget=None).config.base.data
    assert (embedded.shards, embedded.limit) == ("digits", 8)


def test_a_job_may_go_on_with_other_devices_and_with_nothing_else_changed(tmp_path: Path) -> None:
    here, there = (asked("ViT-L-14", f"trainer.devices={n}", f"data.workers={n}") for n in (8, 4))
    open_run("x", here.config, tmp_path / "out")
    assert is_of(tmp_path / "out", there.config) and not is_of(tmp_path / "out", asked("ViT-L-14", "eps=2").config)
    before = recipe_text(here.tuned, cost="dear")
    text = with_body(before, there.tuned)
    assert text.split("\n")[:3] == before.split("\n")[:3] and yaml.safe_load(text)["trainer"]["devices"] == 4


def test_fewer_steps_warm_up_in_proportion() -> None:
    optimizer = asked("ViT-L-14", "steps=2000").finetune.optimizer
    assert (optimizer.max_steps, optimizer.warmup_steps) == (2000, 140)
    assert asked("tiny", "steps=1").finetune.optimizer.warmup_steps == 0
    trial = asked("ViT-L-14", quick=True)
    assert trial.finetune.optimizer.max_steps == 200 and trial.config.base.data.limit == 96
    assert any("a trial" in line for line in trial.tuned.ours)


def test_the_result_is_named_after_base_and_method() -> None:
    assert asked("ViT-L/14", "eps=2").name == "ViT-L-14-fare2"
    assert asked("hf-hub:org/model", "eps=4").name == "hf-hub-org-model-fare4"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ViT-L-14"], ["data is missing", "test is missing"]),
        (["ViT-L-14", "data=x"], ["test is missing"]),
        (["tiny", "eps=0.5"], ["threat.eps=0.5: 0.5 could mean 0.5/255"]),
        (["tiny", "openai", "foo"], ["'foo' is no key=value"]),
        (["tiny", "lr=x", "scorecard.daat=1"], ["optimizer.lr", "scorecard: daat"]),
        (["tiny", "objective.name=fari"], ["choose fare or tecoa"]),
        (["tiny", "steps=0", "eps=0"], ["steps: a number of at least 1", "eps: a number above 0"]),
        (["tiny", "data=nowhere/x.tar", "scorecard.data.shards=digits"], ["data: no file 'nowhere/x.tar'"]),
        (["tiny", "--budget", "huge"], ["choose one of: quick"]),
        (["timm/vit_base_patch16_224.dino", "data=x"], ["no text tower"]),
        (["enc.pt", "data=x"], ["model.checkpoint=enc.pt"]),
        (["ViT-B-999", "data=x", "test=y"], ["did you mean"]),
        (["coca_ViT-B-32", "data=x", "test=y"], ["several weights; say which: laion2b"]),
        (["tiny", "--out", "there"], ["holds other files"]),
    ],
)
def test_a_mistake_costs_a_line_and_exit_code_2(
    words: list[str],
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["robustclip", "robustify", *words])
    with pytest.raises(SystemExit) as leave:
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert leave.value.code == 2 and len(lines) == len(told)
    assert all(re.search(re.escape(text), line) for text, line in zip(told, lines, strict=True)), lines
    assert not list(tmp_path.glob("runs/*/*"))


def test_a_request_without_data_is_refused_in_python_too() -> None:
    with pytest.raises(ConfigError, match="data is missing"):
        read_request("ViT-L-14", [], quick=False, budget=None)
