"""A recipe's name and overrides into a checked config, or all of its faults at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from configs.families import ATTACKS
from configs.files import ConfigError, write_atomically
from configs.load import config_hash, load_config, plain, recipe_names, to_yaml
from configs.scorecard import evaluation_of

FARE = "fare_tiny_eps4"


def faults(kind: str, recipe: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(kind, recipe, overrides)
    return str(caught.value).splitlines()


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    def write(content: str | bytes) -> str:
        path = tmp_path / "mine.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_a_shipped_recipe_becomes_typed_values() -> None:
    config = load_config("finetune", FARE, ["optimizer.lr=1e-3", "trainer.devices=8", "evaluation=null"])
    assert config.threat.eps == 4 / 255
    assert config.optimizer.lr == 1e-3 and config.trainer.devices == 8 and config.evaluation is None
    assert config.trainer.accelerator == "auto"


def test_pixel_units_are_exact_also_on_the_command_line() -> None:
    assert load_config("finetune", FARE, ["threat.eps=${px:2}"]).threat.eps == 2 / 255


def test_faults_of_every_kind_are_listed_together() -> None:
    found = faults(
        "finetune",
        "fare_vit_l14_eps4",
        "threat.eps=-1",
        "attack.nam=pdg",
        "optimizer.lr=fast",
        "foo.bar=2",
        "optimizer.warmup_steps=30000",
        "trainer.precision=12",
        "data.batch_size=0",
    )
    expected = [
        "data.shards is missing",
        "eps is -1.0",
        "'nam'",
        "'fast'",
        "foo.bar",
        "warmup_steps=30000",
        "'12'",
        "batch_size is 0",
    ]
    assert len(found) == len(expected)
    for part in expected:
        assert sum(part in line for line in found) == 1, part


def test_unknown_components_list_the_choices() -> None:
    assert faults("finetune", FARE, "attack.name=pdg") == [
        f"attack: unknown attack 'pdg'; choose one of: {', '.join(sorted(ATTACKS.members))}"
    ]
    assert "choose one of: fare, tecoa" in faults("finetune", FARE, "objective.name=fair")[0]
    (line,) = faults("evaluate", "digits", "prior=x", "defenses.magic={}")
    assert line.startswith("defenses.magic: unknown defense 'magic'; choose one of: ") and "clipure_cos, " in line


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("defenses.ttc.steps=-1", "TTC takes steps >= 0"),
        ("defenses.ttc.step=3", "Did you mean one of: 'steps', 'step_size'"),
        ("defenses.clipure_cos.steps=-2", "steps >= 0"),
        ("defenses.clipure_diff.t_min=1.5", "t_min < t_max"),
        ("defenses.random_noise.eps=-0.1", "cannot be negative"),
        ("attacks.apgd_ce.steps=0", "at least one step"),
        ("attacks.apgd_ce.loss=hinge", "hinge"),
        ("curve.attack=fab", "'fab' is none of the attacks"),
        ("curve.defenses=[magic]", "'magic' is none of the defenses"),
        ("curve.eps=[-1.0]", "-1.0 is negative"),
        ("views=[sideways]", "sideways"),
        ("eot_draws=-1", "eot_draws is -1"),
        ("score_draws=0", "score_draws is 0"),
        ("stop_width=2", "stop_width is 2"),
        ("attacks.apgd_t.views=[transfer,sideways]", "unknown view 'sideways'; choose of: control, transfer, adaptive"),
        ("threat.norm=l7", "l7"),
    ],
)
def test_values_out_of_range_are_told_before_anything_is_loaded(override: str, told: str) -> None:
    (line,) = faults("evaluate", "digits", "prior=x", override)
    assert told in line


def test_clean_accuracy_alone_is_asked_for_by_neither_attacks_nor_views() -> None:
    config = load_config("evaluate", "checkpoint_tiny", ["attacks={}", "views=[]"])
    assert config.attacks == {} and config.views == []
    assert faults("evaluate", "checkpoint_tiny", "attacks={}")[0].startswith("attacks is empty; name at least one, or")
    assert faults("evaluate", "checkpoint_tiny", "views=[]")[0].startswith("views is empty, so that no attack runs")


def test_an_evaluation_that_needs_a_prior_says_how_to_name_one() -> None:
    assert faults("evaluate", "digits") == [
        "defenses.clipure_diff needs a prior; say prior=FILE (robustclip prior makes one)"
    ]


def test_faults_of_the_evaluation_inside_a_training_recipe_are_told_with_their_place() -> None:
    assert faults("finetune", FARE, "evaluation.recipe=nothing")[0].startswith("evaluation: unknown evaluate recipe")
    assert faults("finetune", FARE, "evaluation.batch_size=0") == ["evaluation: batch_size is 0; it must be at least 1"]


def test_fare_without_a_random_start_is_refused() -> None:
    (line,) = faults("finetune", FARE, "attack.random_start=false")
    assert "gradient is exactly zero" in line and "random_start" in line
    load_config("finetune", "tecoa_tiny_eps4", ["attack.random_start=false"])


@pytest.mark.parametrize("strategy", ["deepspeed_stage_3", "fsdp"])
def test_strategies_that_shard_weights_under_the_attack_are_refused(strategy: str) -> None:
    (line,) = faults("finetune", FARE, f"trainer.strategy={strategy}")
    assert "shards the weights under the attack" in line


def test_unknown_recipes_suggest_what_is_near() -> None:
    assert "fare_vit_l14_eps4" in faults("finetune", "fare_vit_l14")[0]
    assert faults("finetune", "../finetune/" + FARE)[0].startswith("unknown finetune recipe")
    told = "unknown scorecard recipe 'quik'; choose one of: quick, standard, thorough, or a .yaml file"
    assert faults("scorecard", "quik") == [told]
    assert faults("finetune", "nothing.yaml") == ["no recipe at nothing.yaml"]
    assert {"prior_tiny", "prior_vit_b32", "prior_vit_l14"} < set(recipe_names("prior"))


@pytest.mark.parametrize(
    "text", ["${oc.env:SECRET_TOKEN}", "x-${oc.env:SECRET_TOKEN}", "${oc.decode:1}", "${oc.create:{}}"]
)
def test_recipes_cannot_read_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "swordfish")
    (line,) = faults("finetune", FARE, f"data.shards={text}")
    assert "recipes know only ${px:…}" in line and "swordfish" not in line


def test_a_recipe_cannot_run_code(recipe: Any, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = recipe(f"seed: !!python/object/apply:os.mkdir ['{canary}']\n")
    (line,) = faults("finetune", path)
    assert "is not YAML that can be read" in line and not canary.exists()
    yaml.load(Path(path).read_text(), yaml.UnsafeLoader)
    assert canary.exists(), "the planted code does run where it is let"
    (line,) = faults(
        "finetune",
        recipe("objective: {name: fare, _target_: os.system}\nmodel: {name: tiny}\n"),
        "data.shards=x",
        "threat.eps=8/255",
        "attack.name=pgd",
    )
    assert "_target_" in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("- a\n- b\n", "holds a list"),
        ("model: {name: tiny\nseed: 1\n", ":2 is not YAML"),
        (b"\x00\xff\xfe", "is not YAML"),
        ("a: &a [x]\nseed: *b\n", "is not YAML"),
        ("#" * 1_000_001, "a recipe has at most 1000000"),
        ("seed: ${seed}\nmodel: {name: tiny}\n", "ecursi"),
    ],
)
def test_files_that_are_no_recipes_are_told_with_the_place(content: str | bytes, told: str, recipe: Any) -> None:
    found = faults("finetune", recipe(content))
    assert any(told in line for line in found), found


def test_a_config_round_trips_and_its_hash_follows_its_content(recipe: Any) -> None:
    config = load_config("finetune", FARE)
    again = load_config("finetune", recipe(to_yaml(config)))
    assert plain(again) == plain(config)
    other = load_config("finetune", FARE, ["seed=1"])
    assert config_hash(plain(config)) == config_hash(plain(again)) != config_hash(plain(other))


def test_checking_a_config_moves_no_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    load_config("evaluate", "digits", ["prior=x"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, "first")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "second")
    assert path.read_text() == "first" and [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("defense.name=magic", "defense: unknown defense 'magic'; choose one of: anti_adversary"),
        ("defense={name: ttc, step: 2}", "defense: defense 'ttc': unknown key 'step'"),
        ("defense.name=clipure_diff", "defense needs a prior; say prior=FILE"),
        ("strength.steps=[0]", "strength.steps: 0 is below 1"),
        ("strength.attack={}", "strength.attack is missing"),
        ("strength.attack.name=nothing", "strength.attack: unknown attack 'nothing'"),
        ("probes=0", "probes is 0"),
        ("cascade=sideways", "sideways"),
        ("attacks.square.query=3", "query"),
    ],
)
def test_faults_of_a_scorecard_are_told_under_its_own_keys(override: str, told: str) -> None:
    (line,) = faults("scorecard", "quick", "model.name=tiny", "data.shards=digits", override)
    assert told in line


def test_a_scorecard_is_an_evaluation_beside_the_bare_encoder() -> None:
    said = ["model.name=tiny", "data.shards=/data/some-set/", "data.limit=7", "defense={name: ttc, steps: 3}"]
    evaluation = evaluation_of(plain(load_config("scorecard", "standard", said)))
    assert list(evaluation["tasks"]) == ["some-set"] and evaluation["tasks"]["some-set"]["limit"] == 7
    assert evaluation["defenses"] == {"none": {}, "ttc": {"name": "ttc", "steps": 3}}
    bare = plain(load_config("scorecard", "standard", said[:3]))
    assert list(evaluation_of(bare)["defenses"]) == ["none"]


def test_null_leaves_a_named_part_out() -> None:
    plain_config = load_config("evaluate", "checkpoint_tiny", [])
    assert "ttc" in plain_config.defenses
    assert "ttc" not in load_config("evaluate", "checkpoint_tiny", ["defenses.ttc=null"]).defenses
    assert load_config("evaluate", "checkpoint_tiny", ["defenses.hedge=null"]).defenses == plain_config.defenses
