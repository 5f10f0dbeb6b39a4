"""A stranger's recipe runs nothing, reads no secret, fills no memory, and is told in lines that name the key."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.files import ConfigError
from configs.load import load_config, plain
from configs.names import name_fault, name_faults, safe_name
from configs.scorecard import dataset_name
from configs.yaml_file import DEEPEST
from tests.waiting import CEILING

FARE = "fare_tiny_eps4"
SECRET = "swordfish"
ROOT = Path(__file__).parents[2]


def laughs(levels: int) -> str:
    """A page that unfolds to 9 ** levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


BOMBS: dict[str, tuple[Callable[[], str], str]] = {
    "billion laughs": (lambda: laughs(9), r"its anchors \(&, \*\) unfold to more than 10000 values"),
    "a table in itself": (lambda: "a: &a\n  b: *a\n", r":1 is not YAML that can be read: .*ecursive"),
    "100 MB": (lambda: "#" * 10**8, "has 100000000 bytes; a recipe has at most 1000000"),
    "deep lists": (lambda: "seed: " + "[" * 400_000, f"is nested more than {DEEPEST} deep"),
    "deep tables": (lambda: "seed: " + "{a: " * 200_000, f"is nested more than {DEEPEST} deep"),
    "deep blocks": (lambda: "".join(f"{' ' * n}a:\n" for n in range(1000)), f"is nested more than {DEEPEST} deep"),
    "a tag of Python": (lambda: "seed: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "a tag of a name": (lambda: "seed: !!python/name:os.system\n", "could not determine a constructor"),
    "a tag of a module": (lambda: "seed: !!python/module:os\n", "could not determine a constructor"),
    "a tag of one's own": (lambda: "seed: !secret x\n", "could not determine a constructor"),
    "one key twice": (lambda: "seed: 1\nseed: 2\n", ":2 is not YAML that can be read: found duplicate key"),
    "no text": (lambda: "a: \x07\n", "is not YAML that can be read"),
}
READER = """
import resource, sys
from pathlib import Path
from configs.yaml_file import read_yaml
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_yaml(path)
    except ValueError as error:
        print(str(error).replace(chr(10), "NEWLINE"))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_bombs_are_told_in_a_line_each_and_fill_no_memory(tmp_path: Path) -> None:
    for number, (content, _) in enumerate(BOMBS.values()):
        (tmp_path / f"{number:02d}.yaml").write_text(content())
    ended = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=CEILING
    )
    assert ended.returncode == 0, ended.stderr[-500:]  # the fast reader of YAML ends the process where it is too deep
    *lines, grown = ended.stdout.splitlines()
    assert len(lines) == len(BOMBS) and int(grown) < 200
    for line, (name, (_, told)) in zip(lines, BOMBS.items(), strict=True):
        assert re.search(told, line) and "NEWLINE" not in line, f"{name}: {line}"


PLACES = [  # (override with {} where the secret is asked for, key that is told)
    ("data.shards={}", "data.shards"),
    ("encoder='{}'", "encoder"),
    ("model.name={}", "model.name"),
    ("attack={{name: pgd, steps: '{}'}}", "attack.steps"),
    ("evaluation={{recipe: '{}'}}", "evaluation.recipe"),
    ("evaluation={{recipe: checkpoint_tiny, encoder: '{}'}}", "evaluation.encoder"),
    ("evaluation={{recipe: checkpoint_tiny, tasks: {{a: {{shards: digits, templates: ['{}']}}}}}}", "evaluation.tasks"),
    ("trainer.tracker_options={{wandb: {{tags: [['{}']]}}}}", "trainer.tracker_options"),
    ("trainer.tracker_options={{wandb: {{tags: [{{a: '{}'}}]}}}}", "trainer.tracker_options"),
]
ASKED = ["${oc.env:SECRET}", "x-${oc.env:SECRET}-y", "${ oc.env : SECRET}", "${oc.env:NOT_THERE,${oc.env:SECRET}}"]
OTHER = ["${px:${oc.env:SECRET}}", "${${model.name}.env:SECRET}", "${oc.decode:${oc.env:SECRET}}", "${oc.dict.keys:x}"]


@pytest.mark.parametrize(("place", "key"), PLACES)
def test_no_key_of_a_recipe_reads_the_environment(place: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    for asked in [*ASKED, *OTHER] if key == "encoder" else ASKED[:1]:
        with pytest.raises(ConfigError) as caught:
            load_config("finetune", FARE, [place.format(asked)])
        told = [line for line in str(caught.value).splitlines() if line.startswith(key)]
        assert told and "recipes know only ${px:…}" in told[0] and SECRET not in str(caught.value)


def test_what_stands_for_a_secret_as_a_key_stays_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    said = yaml.safe_load((ROOT / "configs/recipes/evaluate/checkpoint_tiny.yaml").read_text())
    said["tasks"] = {"${oc.env:SECRET}": {"shards": "digits"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(said))
    with pytest.raises(ConfigError) as caught:
        load_config("evaluate", str(tmp_path / "mine.yaml"))
    assert SECRET not in str(caught.value)


TARGETS: list[dict[str, Any]] = [
    {"_target_": "os.system"},
    {"_target_": "logging.os.system", "_args_": ["x"]},
    {"name": "pgd", "_target_": "os.system"},
    {"name": "os.system"},
    {"name": "modules.attacks.pgd.PGD"},
]


@pytest.mark.parametrize("node", TARGETS)
def test_a_recipe_names_members_of_a_family_and_nothing_else(node: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("finetune", FARE, [f"attack={node}"])
    assert str(caught.value).startswith("attack: ") and "\n" not in str(caught.value)


def test_loops_of_keys_are_told_with_each_key() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("finetune", FARE, ["encoder=${data.shards}", "data.shards=${encoder}"])
    told = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in told] == ["data.shards", "encoder"]
    assert all("ecursive" in line for line in told)


ESCAPES = ["../x", "../../../x", "a/b", "a\\b", "a|b", "..", ".x", "", " ", "a\nb", "\x1b[31m", "\u202ea", "x" * 101]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_task_that_files_are_called_after_leads_nowhere(name: str) -> None:
    assert name_fault(name)
    (line,) = name_faults({"tasks": {name: {}}, "defenses": {"none": {}}, "attacks": {}})
    assert line.startswith("tasks: the name ") and line.isprintable()
    safe = safe_name(name)
    assert not name_fault(safe) and Path(safe).name == safe and safe not in (".", "..")


@pytest.mark.parametrize("name", ["digits", "digits-small", "fmow (5 regions)", "CIFAR10.1", "Größe", "=cmd()"])
def test_usual_names_stay_as_they_are(name: str) -> None:
    assert not name_fault(name) and safe_name(name) == name


def test_an_evaluation_with_a_name_that_escapes_is_a_fault_of_its_recipe(tmp_path: Path) -> None:
    said = plain(load_config("evaluate", "checkpoint_tiny"))
    said["tasks"] = {"../../x": {"shards": "digits"}, "a|b": {"shards": "digits"}}
    said["attacks"] = {"pgd\x1b[2J": {"name": "pgd"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(said))
    with pytest.raises(ConfigError) as caught:
        load_config("evaluate", str(tmp_path / "mine.yaml"))
    told = str(caught.value)
    assert "tasks: the name '../../x' holds /" in told and "tasks: the name 'a|b' holds |" in told
    assert "attacks: the name 'pgd\\x1b[2J' holds characters" in told and "\x1b" not in told


@pytest.mark.parametrize(
    ("shards", "name"),
    [
        ("https://host/numbers?X-Amz-Signature=swordfish", "numbers"),
        ("https://host/a/x-{0..9}.tar?token=swordfish", "x-{0..9}.tar"),
        ("/data/some-set/", "some-set"),
        ("/data/..", "images"),
        ("/data/a|b\x1b[31m", "a-b-[31m"),
    ],
)
def test_a_scorecards_images_are_called_after_their_place_without_what_may_be_secret(shards: str, name: str) -> None:
    assert dataset_name({"data": {"shards": shards}}) == name
