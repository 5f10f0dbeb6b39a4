"""Published numbers stand as they were read; what is unknown stays empty."""

from __future__ import annotations

import csv

import pytest

from configs.load import recipe_names
from data.benchmarks.registry import entries
from eval.protocols.published import FILE, all_published, beside, is_model, of_protocol, released_as, unplaced

B32, L14 = ("ViT-B-32", "openai"), ("ViT-L-14", "openai")


def texts(*place: object) -> list[str]:
    return [one.text for one in beside(*place)]  # pyright: ignore[reportArgumentType]


def test_every_line_is_a_number_of_a_protocol_that_is_known_well_enough() -> None:
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(all_published()) > 400
    sets = {one.dataset for one in entries()} | {"average"}
    for row in rows:
        assert row["protocol"] in recipe_names("protocol")
        assert row["verified"] in ("yes", "secondary")  # what is unreliable is not shown at all
        assert 0 <= float(row["accuracy_pct"]) <= 100
        assert row["dataset"] in sets and row["paper"] and row["source"] and row["attack"]
        assert row["eps_255"] == "" or float(row["eps_255"]) in (0, 1, 2, 4)
        assert (row["norm"], row["eps_255"]) == ("none", "0") or row["norm"] in ("linf", "")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (("fare-2024", ["FARE4"], L14, "average", 0.0, "clean"), ["61.1"]),
        (("fare-2024", ["FARE4"], L14, "average", 2 / 255, "autoattack"), ["45.9"]),
        (("fare-2024", ["FARE4"], L14, "average", 4 / 255, "autoattack"), ["32.4"]),
        (
            ("fare-2024", ["FARE4"], ("convnext_base_w", "laion2b_s13b_b82k_augreg"), "average", 4 / 255, "autoattack"),
            ["28.4"],
        ),
        (("fare-2024", ["CLIP"], L14, "average", 4 / 255, "autoattack"), ["0.0"]),
    ],
)
def test_numbers_are_shown_as_they_were_printed(place: tuple[object, ...], told: list[str]) -> None:
    assert texts(*place) == told


def test_a_number_read_in_anothers_document_is_marked() -> None:
    found = beside("ttc-2025", ["TTC"], B32, "cifar10", 4 / 255, "pgd")
    assert found and all(one.text.endswith("²") and one.verified == "secondary" for one in found)
    assert all(one.text == f"{one.accuracy_pct}²" for one in found)


def test_nothing_stands_where_nothing_is_known() -> None:
    assert texts("fare-2024", ["FARE4"], L14, "cifar10", 2 / 255, "autoattack") == []  # averages only
    assert texts("fare-2024", ["FARE4"], L14, "average", 3 / 255, "autoattack") == []
    assert texts("fare-2024", ["FARE4"], ("ViT-B-16", "openai"), "average", 0.0, "clean") == []
    assert texts("fare-2024", [], L14, "average", 0.0, "clean") == []
    assert texts("fare-2024", ["FARE4"], ("tiny", ""), "average", 0.0, "clean") == []
    assert texts("ttc-2025", ["FARE4"], L14, "average", 0.0, "clean") == []


def test_numbers_without_a_radius_or_a_model_stand_beside_none_and_are_told() -> None:
    assert [(one.accuracy_pct, one.eps_255) for one in unplaced("clipure-2025")] == [("72.6", None), ("59.6", None)]
    assert not any(is_model(one, L14) for one in of_protocol("clipure-2025"))


def test_the_models_that_fares_authors_released_are_known_by_name() -> None:
    assert released_as("hf-hub:chs20/fare4-clip") == ("FARE4", "ViT-L-14", "openai")
    name = "hf-hub:chs20/TeCoA4-ViT-B-32-laion2B-s34B-b79K"
    assert released_as(name) == ("TeCoA4", "ViT-B-32", "laion2b")
    assert released_as("ViT-L-14") is None
    assert texts("fare-2024", ["TeCoA4"], ("ViT-B-32", "laion2b"), "average", 0.0, "clean") == ["46.8"]
