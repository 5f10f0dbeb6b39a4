"""Radii in the unit of their norm, and numbers within their ranges."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from configs import strategies
from configs.files import ConfigError
from configs.load import load_config, plain, to_yaml
from configs.overrides import radius_text
from configs.protocol import load_protocol
from configs.values import pixels_of

QUICK = ("quick", ["model.name=tiny", "data.shards=digits"])


def fault(kind: str, recipe: str, *words: str) -> str:
    with pytest.raises(ConfigError) as told:
        load_config(kind, recipe, words)
    (line,) = str(told.value).splitlines()
    return line


@pytest.mark.parametrize("typed", ["4", "4/255", "4.0", "4.0/255", " 4 / 255", repr(4 / 255), 4, 4.0, 4 / 255])
def test_four_grey_levels_can_be_said_in_many_ways(typed: str | float) -> None:
    assert pixels_of(typed, "linf", typed=True) == 4 / 255


@pytest.mark.parametrize("typed", ["4", "${px:4}"])
def test_four_grey_levels_are_meant_wherever_a_radius_is_typed(typed: str) -> None:
    evaluation = load_config("evaluate", "checkpoint_tiny", [f"eps={typed}", f"attacks.pgd.step_size={typed}"])
    assert evaluation.threat.eps == evaluation.attacks["pgd"]["step_size"] == pytest.approx(4 / 255, abs=0)
    words = [f"threat.eps={typed}", f"attack.step_size={typed}", f"evaluation.threat.eps={typed}"]
    training = load_config("finetune", "fare_tiny_eps4", words)
    assert training.threat.eps == training.attack["step_size"] == 4 / 255
    card = load_config("scorecard", QUICK[0], [*QUICK[1], f"eps={typed}", "defense.name=ttc", f"defense.eps={typed}"])
    assert card.threat.eps == card.defense["eps"] == 4 / 255
    card = load_config("scorecard", QUICK[0], [*QUICK[1], "defense={name: ttc, eps: " + f'"{typed}"' + "}"])
    assert card.defense["eps"] == 4 / 255
    tuning = load_config("tune", "ttc_tiny", [f"eps={typed}", f"search.eps=[1,{typed}]"])
    assert tuning.threat.eps == tuning.search["eps"][1] == 4 / 255 and tuning.search["eps"][0] == 1 / 255
    protocol = load_protocol("fare-2024", [f"eps=1,{typed}"])
    assert [part.eps for part in protocol.parts.values()] == [[1 / 255, 4 / 255]] * len(protocol.parts)


def test_a_recipe_may_say_a_radius_in_each_of_these_ways(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    text = to_yaml(load_config("evaluate", "checkpoint_tiny"))
    for said in ("4", "4/255", '"${px:4}"'):
        recipe.write_text(text.replace(f"eps: {4 / 255!r}", f"eps: {said}"))
        assert load_config("evaluate", str(recipe)).threat.eps == 4 / 255


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_lengths_of_other_norms_are_not_in_255ths(norm: str) -> None:
    for words in (["eps=0.5", f"norm={norm}"], [f"threat.norm={norm}", "threat.eps=0.5"]):
        assert load_config("evaluate", "checkpoint_tiny", words).threat.eps == 0.5
    words = [f"norm={norm}", "eps=3", "attacks.pgd.step_size=1", "curve.eps=[1,2]", "curve.attack=pgd"]
    config = load_config("evaluate", "checkpoint_tiny", [*words, "curve.defenses=[none]"])
    assert (config.threat.eps, config.attacks["pgd"]["step_size"], config.curve.eps) == (3, 1, [1, 2])
    assert load_config("evaluate", "checkpoint_tiny", [f"norm={norm}", "eps=128/255"]).threat.eps == 128 / 255


@pytest.mark.parametrize("typed", ["0.5", "1.0", "0.1"])
def test_what_could_be_either_unit_is_refused_where_it_is_typed(typed: str) -> None:
    assert f"{typed}: {float(typed):g} could mean" in fault("evaluate", "checkpoint_tiny", f"eps={typed}")


def test_a_saved_radius_of_half_the_pixels_is_that_still(tmp_path: Path) -> None:
    config = load_config("evaluate", "checkpoint_tiny", ["eps=127.5/255"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config("evaluate", str(tmp_path / "config.yaml")).threat.eps == 0.5


def test_more_levels_than_pixels_have_are_refused() -> None:
    assert "more than the pixels have" in fault("evaluate", "checkpoint_tiny", "eps=300")
    assert "of type 'str'" in fault("evaluate", "checkpoint_tiny", "eps=4/256")


def test_a_length_that_several_norms_share_must_say_its_unit() -> None:
    with pytest.raises(ConfigError, match="counts in 1/255 under linf only"):
        load_protocol("robustbench", ["attacks.x.step_size=2", "attacks.x.name=pgd"])
    assert load_protocol("robustbench", ["attacks.x.step_size=2/255", "attacks.x.name=pgd"])


@given(st.floats(0, 1), st.sampled_from(["linf", "l2", "l1"]))
@example(0.9375, "linf")  # 239.0625 levels: seven digits
def test_a_radius_in_words_is_that_radius(value: float, norm: str) -> None:
    assert pixels_of(radius_text(value, norm), norm, typed=True) == pytest.approx(value, rel=1e-14)


@given(st.one_of(st.integers(0, 255), st.floats(0, 255)))
def test_reading_a_radius_twice_changes_nothing(value: float) -> None:
    once = pixels_of(value, "linf")
    assert pixels_of(once, "linf") == once or isinstance(once, int)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("seed=-1", "seed is -1; it must be at least 0"),
        ("seed=99999999999999999999", "it must be at most 4294967295"),
        ("data.workers=-1", "data.workers is -1; it must be at least 0"),
        ("data.batch_size=-8", "data.batch_size is -8; it must be at least 1"),
        ("data.max_bad=1.5", "data.max_bad is 1.5; it must be at most 1"),
        ("data.max_bad=nan", "data.max_bad is nan; it must be a number"),
        ("data.cache=0", "data.cache is 0.0; it must be above 0"),
        ("trainer.clip=-1", "trainer.clip is -1.0; it must be above 0, or null"),
        ("trainer.skips=-1", "trainer.skips is -1; it must be at least 0"),
        ("evaluation.examples=-1", "evaluation: examples is -1; it must be at least 0"),
    ],
)
def test_numbers_out_of_their_range_cost_a_line(word: str, told: str) -> None:
    assert told in fault("finetune", "fare_tiny_eps4", "data.shards=digits", word)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("views=[adaptiv]", "views: unknown value 'adaptiv'; choose one of: 'control', 'transfer', 'adaptive', "),
        ("threat.norm=l3", "threat.norm: unknown value 'l3'; choose one of: 'linf', 'l2', 'l1'"),
        ("batch_size=null", "batch_size: it cannot be null"),
        ("attacks.pgd.stepz=4", "attacks.pgd: attack 'pgd': unknown key 'stepz'. Did you mean one of: 'steps', "),
    ],
)
def test_what_no_schema_takes_is_said_in_a_users_words(word: str, told: str) -> None:
    assert told in fault("evaluate", "checkpoint_tiny", word)


def test_an_optional_number_may_be_null() -> None:
    assert fault("evaluate", "checkpoint_tiny", "model.image_size=0").endswith("it must be at least 1, or null")


def test_the_home_folder_is_found_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    words = ["model.checkpoint=~/a b.pt", "prior=~/p.safetensors", "model.name=local-dir:~/m"]
    config = load_config("evaluate", "checkpoint_tiny", words)
    assert config.model.checkpoint == "/home/me/a b.pt" and config.prior == "/home/me/p.safetensors"
    assert config.model.name == "local-dir:/home/me/m"
    assert plain(config)["encoder"] == "CLIP"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trainer.devices=0"], "trainer.devices is '0'; give a number of processes from 1 on"),
        (["trainer.devices=-2"], "trainer.devices is '-2'"),
        (["trainer.devices=two"], "trainer.devices is 'two'"),
        (["trainer.devices=-1", "trainer.accelerator=cpu"], "names GPUs, and trainer.accelerator is cpu"),
        (["trainer.devices=0,1", "trainer.accelerator=cpu"], "names GPUs, and trainer.accelerator is cpu"),
        (["trainer.devices=1,1", "trainer.accelerator=gpu"], "names a GPU twice"),
        (["trainer.accelerator=abacus"], "trainer.accelerator: unknown 'abacus'; choose one of: auto, cpu"),
    ],
)
def test_devices_that_cannot_be_cost_a_line(words: list[str], told: str) -> None:
    assert told in fault("pretrain", "tiny", *words)


@pytest.mark.parametrize("devices", ["2", "'2'", "auto", "-1", "0,1", "'0,1'", "[0, 3]"])
def test_devices_are_a_number_or_gpus(devices: str) -> None:
    load_config("pretrain", "tiny", [f"trainer.devices={devices}", "trainer.accelerator=gpu"])


def test_without_a_gpu_those_of_a_recipe_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "_has_gpu", lambda: False)
    assert "there is none here" in fault("pretrain", "tiny", "trainer.devices=-1")
    monkeypatch.setattr(strategies, "_has_gpu", lambda: True)
    load_config("pretrain", "tiny", ["trainer.devices=-1"])
