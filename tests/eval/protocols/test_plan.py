"""A protocol becomes evaluations: as many images, attacks and radii as it says, no more and no less."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.files import ConfigError
from configs.protocol import load_protocol
from data.benchmarks.registry import entry
from eval.protocols.places import Places
from eval.protocols.plan import Step, label_of, radius_of, steps_of

MODEL = {"name": "tiny", "pretrained": ""}


def planned(name: str, *overrides: str) -> dict[str, Step]:
    """The steps by folder, as if every set lay somewhere."""
    config = load_protocol(name, overrides)
    sets = {
        (part, one): replace(said, shards="/data", ids="list.txt" if entry(said.dataset).ids else None)
        for part, group in config.parts.items()
        for one, said in group.sets.items()
    }
    return {step.folder: step for step in steps_of(label_of(name, config), config, Places(sets, []), MODEL, "ours")}


def test_fare_judges_all_images_clean_and_attacks_a_thousand() -> None:
    steps = planned("fare-2024")
    clean = steps["zero_shot-clean"].config
    assert (clean.attacks, clean.views, len(clean.tasks)) == ({}, [], 13)
    assert {task.limit for task in clean.tasks.values()} == {None}
    for eps in (2, 4):
        some = steps[f"zero_shot-linf-{eps}"].config
        assert some.threat.eps == pytest.approx(eps / 255)
        assert {task.limit for task in some.tasks.values()} == {1000} and len(some.tasks) == 12
        assert {task.logit_scale for task in some.tasks.values()} == {100.0}
        assert some.attacks["autoattack"]["attacks"] == ["apgd_ce", "apgd_t"]
        pcam = steps[f"zero_shot-linf-{eps}-pcam"].config
        assert list(pcam.tasks) == ["pcam"] and pcam.attacks["autoattack"]["attacks"] == ["apgd_ce"]
        whole = steps[f"imagenet-linf-{eps}"].config.tasks["imagenet"]
        assert (whole.limit, whole.first, whole.logit_scale, whole.ids) == (None, None, None, "list.txt")
    assert len(steps) == 7


def test_ttc_attacks_the_static_model_and_we_add_the_attacker_who_knows() -> None:
    steps = planned("ttc-2025")
    assert set(steps) == {f"sets-linf-{eps}{kind}" for eps in (1, 4) for kind in ("", "-pcam", "-adaptive")}
    theirs, ours = steps["sets-linf-4"].config, steps["sets-linf-4-adaptive"].config
    assert (theirs.views, list(theirs.attacks)) == (["transfer"], ["pgd", "cw", "autoattack"])
    assert theirs.defenses["ttc"] == {"steps": 2, "step_size": 1 / 255, "eps": 4 / 255, "tau": 0.2, "beta": 2.0}
    assert {"adaptive", "eot", "bpda", "query"} <= set(ours.views) and len(ours.tasks) == 16
    assert {task.limit for task in ours.tasks.values()} == {500}
    assert {task.limit for task in theirs.tasks.values()} == {None}


def test_clipure_is_attacked_through_the_released_gradient_and_through_the_true_one() -> None:
    steps = planned("clipure-2025")
    theirs, ours = steps["imagenet-linf-4"].config, steps["imagenet-linf-4-adaptive"].config
    assert theirs.views == ["released"] and "released" not in ours.views
    assert theirs.defenses["clipure_cos"] == {"mode": "legacy", "steps": 10, "step_size": 30.0, "legacy_batch": 2}
    assert theirs.tasks["imagenet"].first == 1000


def test_robustbench_has_a_norm_and_a_radius_for_each_board() -> None:
    steps = planned("robustbench")
    threats = {name: (step.norm, round(step.eps, 6)) for name, step in steps.items()}
    assert threats == {
        "imagenet-linf-4": ("linf", round(4 / 255, 6)),
        "cifar10-linf-8": ("linf", round(8 / 255, 6)),
        "cifar10_l2-l2-0.5": ("l2", 0.5),
    }
    assert all(step.config.attacks == {"autoattack": {"version": "standard"}} for step in steps.values())


def test_a_defence_of_the_users_own_gets_the_adaptive_columns_too() -> None:
    steps = planned("robustclip-scorecard", "defenses.ttc={}", "limit=256")
    ours = steps["zero_shot-linf-2-adaptive"].config
    assert list(ours.defenses) == ["none", "ttc"]
    assert {task.limit for task in ours.tasks.values()} == {256}
    assert not any("adaptive" in name for name in planned("robustclip-scorecard"))


def test_every_evaluation_says_of_which_protocol_it_is() -> None:
    labels = {step.config.protocol for step in planned("fare-2024").values()}
    (label,) = labels
    assert label.startswith("fare-2024@") and len(label) == len("fare-2024@") + 12
    assert {step.config.protocol for step in planned("fare-2024", "seed=1").values()} != labels


def test_faults_of_all_evaluations_are_told_together_and_once() -> None:
    with pytest.raises(ConfigError) as caught:
        planned("fare-2024", "attacks.autoattack.steeps=1", "defenses.clipure_diff={}")
    told = str(caught.value)
    assert told.count("clipure_diff needs a prior") == 1 and told.count("'steeps'") == 1


def test_radii_in_names_of_folders() -> None:
    assert [radius_of("linf", 4 / 255), radius_of("linf", 0.5 / 255), radius_of("l2", 0.5)] == [
        "linf-4",
        "linf-0.5",
        "l2-0.5",
    ]
