from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from data.benchmarks.entry import Entry
from data.benchmarks.registry import entries, entry, protocols, read_entries
from data.benchmarks.renaming import RULES
from data.benchmarks.texts import NAMES
from data.layouts.reading import LAYOUTS

FARE = """cifar10 10000 10 18 | stl10 8000 10 2 | cifar100 10000 100 18 | cars 8041 196 8 | caltech101 6085 102 34
pets 3669 37 1 | flowers102 6149 102 1 | dtd 1880 47 8 | eurosat 5400 10 3 | fgvc_aircraft 3333 100 2 | pcam 32768 2 2
imagenet_r 30000 200 80 | imagenet_sketch 50889 1000 80"""
TTC = {
    **{"cifar10": 10000, "cifar100": 10000, "stl10": 8000, "imagenet": 49950, "caltech101": 8677, "caltech256": 30607},
    **{"pets": 3669, "flowers102": 6149, "fgvc_aircraft": 3333, "cars": 8041, "sun397": 108754, "country211": 21100},
    **{"food101": 25250, "eurosat": 27000, "dtd": 1880, "pcam": 32768, "tiny_imagenet": 10000},
}
ALL = [one for protocol in protocols() for one in entries(protocol)]


def test_the_thirteen_sets_of_fare_stand_in_its_order_with_its_counts() -> None:
    rows = [row.split() for row in re.split(r"[|\n]", FARE)]
    found = [[one.dataset, one.count, one.classes, one.templates.count] for one in entries("fare")]
    assert found == [[name, *map(int, numbers)] for name, *numbers in rows]
    assert {one.dataset for one in entries("fare") if one.space == "native"} == {"cifar10", "cifar100", "stl10"}
    assert all(one.aliases[0].startswith("wds/") for one in entries("fare"))


def test_the_sets_of_ttc_stand_in_its_order_with_its_counts_and_one_template() -> None:
    found = entries("ttc")
    assert {one.dataset: one.count for one in found} == TTC
    assert [one.dataset for one in found] == list(TTC)
    assert all((one.resize, one.interpolation, one.space) == (256, "bilinear", "model") for one in found)
    assert all(len(one.templates.lines) == 1 for one in found)
    assert entry("ttc/imagenet").templates.lines == ("This is a photo of a {}.",)
    assert entry("ttc/dtd").templates.lines == ("A surface with a {} texture.",)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.id)
def test_every_entry_is_whole(one: Entry) -> None:
    assert one.title and one.needs
    if not one.tasks:
        assert one.kind in ("2afc", "odd_one_out", "retrieval")
        return
    assert one.count and one.classes and one.layouts
    assert {name for name, _ in one.layouts} <= {"clip_benchmark", *LAYOUTS}
    assert set(one.rename) <= set(RULES)
    assert one.space == "model" or one.native
    for texts, expected in ((one.names, one.classes), (one.templates, None)):
        assert all(line.count("{}") == 1 for line in texts.lines)
        assert texts.count is None or expected in (None, texts.count)
        if texts.origin == "file":
            content = (NAMES / texts.name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == texts.sha256
            assert len(content.decode().splitlines()) == one.classes


def test_a_data_set_is_found_by_its_id_and_its_aliases_and_near_misses_are_named() -> None:
    assert entry("wds/vtab/cifar10") is entry("fare/cifar10")
    assert entry("sun397").id == "ttc/sun397"
    with pytest.raises(ValueError, match="'cifar10' is used in 3 ways; choose one of: fare/cifar10, robustbench/cifar"):
        entry("cifar10")
    with pytest.raises(ValueError, match="unknown data set 'fare/cifar1'; choose one of: fare/cifar10"):
        entry("fare/cifar1")
    with pytest.raises(ValueError, match="unknown protocol 'far'; choose one of: .*fare"):
        entries("far")


def test_a_key_that_entries_do_not_have_is_found(tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text("title: Odd\nresise: 256\nprotocols: {ttc: }\n")
    with pytest.raises(ValueError, match="'ttc/odd' of the catalog says resise"):
        read_entries(file)


def test_rules_of_renaming_do_what_the_papers_do() -> None:
    cases = {
        "strip_year": {"Audi S4 Sedan 2012": "Audi S4 Sedan", "Ram C-V Cargo Van Minivan": "Ram C-V Cargo Van Minivan"},
        "boeing": {"747-400": "Boeing 747-400", "707-320": "Boeing 707-320", "A320": "A320", "DC-10": "DC-10"},
        "person": {"Faces": "person", "Faces_easy": "person", "face": "face"},
        "title_case": {"american bulldog": "American Bulldog", "Abyssinian": "Abyssinian"},
    }
    assert cases.keys() == RULES.keys()
    for rule, pairs in cases.items():
        assert {name: RULES[rule](name) for name in pairs} == pairs
