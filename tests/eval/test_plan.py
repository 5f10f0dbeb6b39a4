"""A plan is built whole, or refused with everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from configs.files import ConfigError
from eval.plan import Plan, device_of
from modules.attacks.apgd import APGD
from modules.defenses.base import View
from modules.defenses.clipure_cos import CLIPureCos
from modules.encoders.clip import CLIP

Planned = Callable[..., Plan]


def test_a_batch_size_that_splits_coupled_groups_is_refused(planned: Planned) -> None:
    with pytest.raises(ConfigError, match=r"batch_size=7 splits the groups of 2 that defenses\.legacy works on"):
        planned("defenses={legacy: {name: clipure_cos, mode: legacy}}", "batch_size=7")
    planned("defenses={legacy: {name: clipure_cos, mode: legacy}}", "batch_size=8")
    planned("defenses={honest: {name: clipure_cos}}", "batch_size=7")


def test_all_faults_are_told_together(planned: Planned) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(
            "defenses={legacy: {name: clipure_cos, mode: legacy}, gated: {name: ttc, calibrate: true}}",
            "batch_size=7",
            "tasks.digits.tune_split=test",
        )
    assert len(str(caught.value).splitlines()) == 2
    told = "calibrates on a tuning split, which tasks.digits lacks; name one with tasks.digits.tune_split"
    assert f"defenses.gated {told}" in str(caught.value)


def test_an_attack_may_be_kept_to_some_views(planned: Planned) -> None:
    plan = planned("attacks={apgd: {steps: 3}, pgd: {views: [transfer, eot]}}", "views=[transfer, adaptive]")
    assert plan.attacks["apgd"].views == {View.transfer, View.adaptive}
    assert plan.attacks["pgd"].views == {View.transfer}


def test_an_attack_at_another_radius_keeps_its_settings(planned: Planned) -> None:
    plan = planned("attacks={strong: {name: apgd, loss: dlr, steps: 5, restarts: 2, views: [eot]}}", "threat.norm=l2")
    attack = plan.at(0.3, "strong", plan.tasks[0])
    assert isinstance(attack, APGD)
    assert (attack.loss, attack.steps, attack.restarts) == ("dlr", 5, 2)
    assert (attack.threat.norm, attack.threat.eps) == ("l2", 0.3)
    assert plan.attacks["strong"].attack.threat.eps == plan.threat.eps == pytest.approx(4 / 255)


def test_the_hash_names_the_settings(planned: Planned) -> None:
    assert planned().hash == planned().hash
    assert len({planned().hash, planned("seed=1").hash, planned("attacks={apgd: {steps: 4}}").hash}) == 3


def test_clipure_cos_looks_at_the_templates_of_the_set(clip: CLIP, planned: Planned) -> None:
    plan = planned("tasks.digits.templates=['an odd {} here']", "defenses={clipure_cos: {}}", "blank_prompt=unused")
    defense = plan.defend("clipure_cos", clip.image, plan.tasks[0])
    assert isinstance(defense, CLIPureCos)
    assert clip.text is not None
    torch.testing.assert_close(defense.blank, clip.text.encode_text(["an odd  here"])[0])


def test_a_defence_can_be_put_around_any_encoder_of_the_space(clip: CLIP, planned: Planned) -> None:
    plan = planned()
    one, other = (plan.defend("none", clip.image, plan.tasks[0]) for _ in range(2))
    assert one is not other
    assert one.encoder is clip.image


def test_a_prior_that_is_not_there_is_named(planned: Planned, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        planned("defenses={clipure_diff: {}}", f"prior={tmp_path / 'nowhere.safetensors'}")


def test_a_device_that_is_not_there_is_refused_with_the_way_out() -> None:
    assert device_of("cpu") == torch.device("cpu")
    for name in ("cuda:77", "abacus"):
        with pytest.raises(ConfigError, match=f"device '{name}' is not to be had here; say device=auto"):
            device_of(name)
