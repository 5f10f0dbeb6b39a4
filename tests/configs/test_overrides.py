"""What is typed for a setting is what the setting holds."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from configs.files import ConfigError
from configs.load import load_config, same_config, to_yaml
from configs.overrides import in_full, override, parse_overrides, unquoted, value_of
from configs.yaml_file import dump_yaml, read_yaml

SHARDS = "tasks.digits.shards"
ODD = [
    *("digits #2", "007", "1e5", "on", "null", "2024-01-01", "[x", "a: b", "a path/with  spaces ", "x=y", "a,b"),
    *("it's", 'say "a"', "~", ":", "*.tar", "!x", "&a", "%", "@", "`", "-", "?", "{", "}", "|", ">", "0x1F", "1_000"),
    *("12:30", ".inf", "yes", "Null", "\\d", "'", '"', "x #", "#", "x\u00a0#y", "\u2028"),
]


def values(kind: str, *words: str, tree: dict[str, Any] | None = None) -> list[Any]:
    return [value for _, value in parse_overrides(kind, tree or {}, words)]


def fault(kind: str, *words: str) -> str:
    with pytest.raises(ConfigError) as told:
        parse_overrides(kind, {}, words)
    (line,) = str(told.value).splitlines()
    return line


@pytest.mark.parametrize("text", ODD)
def test_a_text_is_what_was_typed(text: str) -> None:
    assert values("evaluate", f"{SHARDS}={text}") == [text]
    assert values("finetune", f"train_template={text}", f"encoder={text}") == [text, text]
    assert values("finetune", f"trainer.keep_best={text}") == [None if text == "null" else text]


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda t: "${" not in t))
def test_any_printable_text_is_what_was_typed_and_what_was_quoted(text: str) -> None:
    (typed,) = values("evaluate", f"{SHARDS}={text}")
    assert typed == unquoted(text) and (typed == text or text[0] == text[-1] and text[0] in "'\"")
    assert values("evaluate", override(SHARDS, text)) == [text]
    single = text.replace("'", "''")
    assert values("evaluate", f"blank_prompt='{single}'") == [text]
    assert value_of([f"{SHARDS}=other", override(SHARDS, text)], SHARDS) == text


@settings(max_examples=100, deadline=None)
@given(text=st.text(string.printable + "é\u2028–", min_size=1).filter(lambda t: "${" not in t))
@example(text="1e5")
@example(text="1_0")
@example(text="007")
@example(text="2024-01-01")
def test_a_saved_text_is_read_as_it_was(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "saved.yaml"
    file.write_text(dump_yaml({"data": {"shards": text}}), newline="")
    assert read_yaml(file) == {"data": {"shards": text}}


@pytest.mark.parametrize("text", ["1e5", "on", "a: b #c"])
def test_a_saved_config_is_read_again(text: str, tmp_path: Path) -> None:
    config = load_config("pretrain", "tiny", [f"data.shards={text}"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert same_config(tmp_path / "config.yaml", config)
    assert load_config("pretrain", str(tmp_path / "config.yaml")) == config


def test_quotes_are_the_way_to_say_null_and_nothing() -> None:
    assert values("evaluate", "prior='null'", 'prior="null"') == ["null", "null"]
    assert values("evaluate", "model.pretrained=", "prior=''") == ["", ""]
    assert fault("evaluate", "prior=") == "prior=: it has no value; leave it out, or say prior=null"
    assert fault("evaluate", "seed=") == "seed=: it has no value; leave it out"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("seed=8", 8),
        ("seed=010", 10),
        ("optimizer.lr=1e-3", 1e-3),
        ("data.skip_bad=yes", True),
        ("data.limit=null", None),
        ("optimizer.betas=[0.5, 1e-3]", [0.5, 1e-3]),
        ("trainer.devices=2", 2),
        ("trainer.devices=0,1", "0,1"),
        ("trainer.devices='2'", "2"),
        ("trainer.trackers=[wandb, 007, a b]", ["wandb", "007", "a b"]),
        ("evaluation.tasks.t.templates=['a {}, b', a #{}, null]", ["a {}, b", "a #{}", "null"]),
        ("trainer.tracker_options.wandb.project=007", "007"),
        ("attack.loss=on", "on"),
        ("evaluation=null", None),
        ("attack={name: pgd, steps: 3}", {"name": "pgd", "steps": 3}),
    ],
)
def test_other_values_are_read_as_they_are_declared(word: str, value: Any) -> None:
    assert values("finetune", "attack.name=apgd", word)[1:] == [value]


@pytest.mark.parametrize(
    "word", ["seed=8 #x", "optimizer.lr=1 #x", "attack={name: pgd} #x", "views=[a] #b", "data.window=2\t#3", "x=1 #2"]
)
def test_no_comment_cuts_a_value_off(word: str) -> None:
    try:
        (value,) = values("finetune", word)
    except ConfigError as error:
        assert word in str(error) and len(str(error).splitlines()) == 1
    else:
        assert "#" in str(value)


def test_a_list_needs_its_brackets() -> None:
    assert "such as trainer.trackers=[wandb]" in fault("finetune", "trainer.trackers=wandb")


@pytest.mark.parametrize("text", ["steps", "=3", "a b=3", "-x=1"])
def test_what_is_no_override_is_told(text: str) -> None:
    assert "key=value" in fault("evaluate", text)


def test_the_component_is_known_whichever_word_names_it() -> None:
    assert values("evaluate", "attacks.a.loss=on", "attacks.a.name=apgd") == ["on", "apgd"]
    assert values("evaluate", "attacks.a.step_size=2", "attacks.a.name=pgd")[0] == 2 / 255


@pytest.mark.parametrize(
    ("kind", "typed", "full"),
    [
        ("finetune", "eps=4", "threat.eps=4"),
        ("evaluate", "eps=4/255", "threat.eps=4/255"),
        ("scorecard", "data=digits", "data.shards=digits"),
        ("finetune", "data={shards: digits}", "data={shards: digits}"),
        ("prior", "model=null", "model=null"),
        ("protocol", "data=/data", "data=/data"),
        ("protocol", "eps=4", "eps=4"),
        ("evaluate", "steps=3", "steps=3"),
        ("tune", "word", "word"),
    ],
)
def test_a_short_name_stands_for_a_key_where_there_is_that_key(kind: str, typed: str, full: str) -> None:
    assert in_full(kind, [typed]) == [full]


@pytest.mark.parametrize("line", ["encoder: 007", "encoder: on", "train_template: 1e5", "data: {shards: 8}"])
def test_a_text_that_yaml_has_changed_in_a_recipe_asks_for_quotes(line: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(line)
    with pytest.raises(ConfigError, match="put what is meant in quotes"):
        load_config("finetune", str(recipe), ["model.name=tiny", "eps=4", "attack.name=pgd", "objective.name=fare"])


def test_a_date_in_a_recipe_is_a_text_and_a_name_that_is_none_is_told(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("data: {shards: 2024-01-01}\n")
    assert load_config("pretrain", str(recipe)).data.shards == "2024-01-01"
    recipe.write_text("tasks: {on: {shards: digits}}\n")
    with pytest.raises(ConfigError, match="the name True"):
        load_config("evaluate", str(recipe))
