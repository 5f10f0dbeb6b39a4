"""The grid of a tuning, and what is wrong with a recipe, all told together."""

from __future__ import annotations

from typing import Any

import pytest

from configs.files import ConfigError
from configs.load import check_config, load_config, plain
from configs.tuning import Candidate, evaluation_of, grid_of


def names(*overrides: str, recipe: str = "clipure_diff_tiny") -> list[str]:
    return [c.name for c in grid_of(plain(load_config("tune", recipe, ["prior=p", *overrides]))).candidates]


def faults(*overrides: str, recipe: str = "clipure_diff_tiny") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config("tune", recipe, overrides)
    return str(caught.value).splitlines()


def test_the_grid_is_every_combination_in_the_order_of_the_recipe() -> None:
    found = names("search={steps: [3, 1], t_min: [0.0, 0.9]}", "rungs.sieve.keep=1")
    assert found == ["steps=3 t_min=0", "steps=3 t_min=0.9", "steps=1 t_min=0", "steps=1 t_min=0.9"]


def test_trials_are_a_choice_by_seed_and_name_alone() -> None:
    whole, some = names(), names("trials=12")
    assert len(whole) == 36 and len(some) == 12 and [name for name in whole if name in some] == some
    assert names("trials=12") == some != names("trials=12", "seed=1")
    assert set(names("trials=6")) < set(some)
    assert names("trials=99") == whole
    turned = names("trials=12", "search.step_size=[0.3, 0.1, 0.05, 0.02]")  # the order of the values says nothing
    assert set(turned) == set(some)


def test_values_are_told_apart_in_names() -> None:
    found = names("search={step_size: [0.100001, 0.100002]}", "rungs.sieve.keep=1")
    assert found == ["step_size=0.100001", "step_size=0.100002"]


def test_settings_that_contradict_themselves_are_left_out_and_named() -> None:
    config = load_config(
        "tune", "clipure_diff_tiny", ["prior=p", "search={t_min: [0.1, 0.6], t_max: [0.5, 1.0]}", "rungs.sieve.keep=2"]
    )
    grid = grid_of(plain(config))
    assert [c.name for c in grid.candidates] == ["t_min=0.1 t_max=0.5", "t_min=0.1 t_max=1", "t_min=0.6 t_max=1"]
    assert grid.size == 3 and list(grid.impossible) == ["t_min=0.6 t_max=0.5"]


def test_the_line_to_paste_says_all_of_the_setting() -> None:
    config = load_config("tune", "ttc_tiny", ["defense.beta=1.5"])
    line = grid_of(plain(config)).candidates[0].line
    assert line.startswith("defense.name=ttc defense.beta=1.5 defense.steps=") and "defense.direction=" in line
    pasted = load_config("scorecard", "quick", ["model.name=tiny", "data.shards=digits", *line.split()])
    assert pasted.defense == grid_of(plain(config)).candidates[0].node


def test_the_choosing_evaluation_sees_other_images_than_the_judging_one() -> None:
    tree = plain(load_config("tune", "clipure_cos_tiny"))
    grid = grid_of(tree)
    rung = check_config("evaluate", evaluation_of(tree, "sieve", grid.candidates))
    report = check_config("evaluate", evaluation_of(tree, None, grid.candidates[:1]))
    assert (rung.tasks["digits"].split, report.tasks["digits"].split) == ("tune", "test")
    assert list(rung.defenses) == ["none", *(candidate.title for candidate in grid.candidates)]
    assert list(report.defenses) == ["none", grid.candidates[0].title]
    for wanted in (rung, report):  # nothing is calibrated on the other side's images
        assert wanted.tasks["digits"].tune_split == wanted.tasks["digits"].split


def test_all_faults_are_told_together() -> None:
    told = "\n".join(
        faults(
            "model.foo=1",
            "defense.steps=3",
            "search.stepz=[1]",
            "search.t_min=[0.2, a]",
            "search.mc_draws=[]",
            "search.deterministic=true",
            "data.tune_split=test",
            "max_clean_drop=2",
            "trials=-1",
            "report.limit=0",
            "rungs.final.attacks.pdg.loss=1",
            "rungs.final.keep=2",
        )
    )
    for fault in (
        "unknown key 'foo'",
        "search.steps: defense.steps is set to 3 and searched",
        "unknown key 'stepz'. Did you mean one of: ",
        "search.t_min: defense 'clipure_diff': Value 'a'",
        "search.mc_draws is []; give a list of values",
        "search.deterministic is True; give a list of values",
        "needs a prior; say prior=FILE",
        "data.tune_split: 'test' both chooses and judges",
        "max_clean_drop is 2",
        "trials is -1",
        "report.limit is 0",
        "rungs.final.attacks.pdg: unknown attack 'pdg'",
        "rungs.final.keep is 2; the last rung keeps the winner alone",
    ):
        assert fault in told, (fault, told)


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["search={rotation_deg: [1, 2]}"], "rungs.sieve.keep is 4, and only 2 settings enter it"),
        (["trials=3"], "rungs.sieve.keep is 4, and only 3 settings enter it"),
        (["rungs.sieve.keep=0"], "rungs.sieve.keep is 0; it must be at least 1"),
        (["search={}"], "search is empty"),
        (["search.rotation_deg=[1, 1]"], "search.rotation_deg names a value twice"),
        (["defense={}"], "defense.name is missing"),
        (["defense.name=none"], "defense.name is missing"),
        (["defense.name=clipure_kos"], "unknown defense 'clipure_kos'"),
        (["rungs={}"], "rungs is empty"),
        (["report.attacks={}"], "report.attacks is empty"),
        (["data.split=tune"], "both chooses and judges"),
        (["search={steps: [-1, -2]}"], "search: no setting is possible, such as steps=-1"),
    ],
)
def test_each_fault_is_told_in_one_line(overrides: list[str], fault: str) -> None:
    assert any(fault in line for line in faults(*overrides, recipe="clipure_cos_tiny"))


def test_a_gate_is_not_calibrated_on_the_images_that_choose() -> None:
    for said in ("defense.calibrate=true", "search.calibrate=[false, true]"):
        assert any("cannot set a gate as well" in line for line in faults(said, recipe="ttc_tiny"))


def test_other_shards_may_choose() -> None:
    config: Any = load_config("tune", "clipure_cos_tiny", ["data.tune_shards=x-{0..3}.tar", "data.tune_split=test"])
    assert evaluation_of(plain(config), "sieve", [])["tasks"]["digits"]["shards"] == "x-{0..3}.tar"


def test_the_line_to_paste_gives_radii_in_255ths() -> None:
    node = {"name": "ttc", "eps": 2 / 255, "step_size": 0.5, "steps": 3}
    assert (
        Candidate("x", {}, node).line
        == "defense.name=ttc defense.eps=2/255 defense.step_size=127.5/255 defense.steps=3"
    )
