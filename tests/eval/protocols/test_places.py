"""Sets under one folder: found by every usual name, counted, and all faults told in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.files import ConfigError
from configs.protocol import load_protocol
from data.benchmarks.registry import entries, entry
from eval.protocols.places import Places, find_places, folders_of
from tests.data.benchmarks.test_opening import CIFAR10, clip_benchmark
from tests.data.layouts import miniatures as small

LOOSE = "allow_count_mismatch=true"


def places(data: Path, *overrides: str, protocol: str = "fare-2024") -> Places:
    return find_places(load_protocol(protocol, [f"data={data}", *overrides]))


@pytest.mark.parametrize("folder", ["wds_vtab-cifar10", "wds/vtab/cifar10", "cifar10", "CIFAR-10"])
def test_a_set_is_found_by_the_names_that_people_give_it(folder: str, tmp_path: Path) -> None:
    clip_benchmark(tmp_path / folder, CIFAR10)
    found = places(tmp_path, "only=cifar10", LOOSE)
    assert found.sets["zero_shot", "cifar10"].shards == str(tmp_path / folder)
    assert {one.why for one in found.missing} == {"not asked for"}


def test_makers_layouts_may_lie_in_the_folder_itself(tmp_path: Path) -> None:
    small.cifar10_binary(tmp_path, small.pixels(3, 32), [0, 1, 2], CIFAR10)
    small.class_folders(tmp_path / "2750", ["River", "Forest"])
    found = places(tmp_path, "only=cifar10,eurosat", LOOSE, protocol="ttc-2025")
    assert {name: one.shards for (_, name), one in found.sets.items()} == dict.fromkeys(
        ("cifar10", "eurosat"), str(tmp_path)
    )


def test_a_folder_of_other_sets_is_not_taken_for_one_of_class_folders(tmp_path: Path) -> None:
    small.picture(tmp_path / "holiday" / "a.jpg", 1)
    with pytest.raises(ConfigError, match="eurosat: not found under"):
        places(tmp_path, "only=eurosat", LOOSE, protocol="ttc-2025")


def test_all_that_is_missing_or_wrong_is_told_in_one_go(tmp_path: Path) -> None:
    clip_benchmark(tmp_path / "cifar10", CIFAR10)
    with pytest.raises(ConfigError) as caught:
        places(tmp_path)
    lines = str(caught.value).splitlines()
    wanted = [*(one.dataset for one in entries("fare")), "imagenet", "name what is there with only=…"]
    assert [line.split(":")[0].split(",")[0] for line in lines] == wanted
    assert "holds 4 images of split test where fare/cifar10 has 10,000" in lines[0]
    assert "it needs wds/vtab/dtd in clip_benchmark's layout, or dtd with images and labels" in lines[7]
    assert "judged on a list of 5,000 images that nobody may ship; say ids=FILE" in lines[13]


def test_missing_sets_may_be_skipped_but_wrong_ones_may_not(tmp_path: Path) -> None:
    clip_benchmark(tmp_path / "cifar10", CIFAR10)
    found = places(tmp_path, "skip_missing=true", LOOSE)
    assert list(found.sets) == [("zero_shot", "cifar10")]
    assert len(found.missing) == 13
    with pytest.raises(ConfigError, match="^cifar10: .* holds 4 images"):
        places(tmp_path, "skip_missing=true")
    with pytest.raises(ConfigError, match="no set is left to judge\nstl10: not found under"):
        places(tmp_path, "skip_missing=true", "only=stl10", LOOSE)


def test_a_place_of_its_own_a_list_and_no_folder_at_all(tmp_path: Path) -> None:
    clip_benchmark(tmp_path / "x/c", CIFAR10)
    config = load_protocol("fare-2024", ["only=cifar10", f"sets.cifar10.shards={tmp_path / 'x/c'}", LOOSE])
    assert find_places(config).sets["zero_shot", "cifar10"].shards == str(tmp_path / "x/c")
    with pytest.raises(ConfigError, match="cifar10: nothing lies at nowhere"):
        find_places(load_protocol("fare-2024", ["only=cifar10", "sets.cifar10.shards=nowhere"]))
    with pytest.raises(ConfigError, match=r"cifar10: say data=FOLDER, or sets\.cifar10\.shards=FOLDER"):
        find_places(load_protocol("fare-2024", ["only=cifar10"]))
    with pytest.raises(ConfigError, match=r"imagenet: .*ids=none\.txt cannot be read"):
        places(tmp_path, "only=imagenet", "ids=none.txt")


def test_every_entry_has_folders_to_look_in() -> None:
    assert folders_of(entry("fare/cifar10"), "cifar10")[:3] == ["wds_vtab-cifar10", "wds/vtab/cifar10", "cifar10"]
    assert "wds_imagenet1k" in folders_of(entry("robustbench/imagenet"), "imagenet")
    assert all(one.dataset in folders_of(one, one.dataset) for one in entries() if one.tasks)
