"""A card says what was measured on the very weights, and is inert whatever names hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from configs.files import ConfigError
from eval.card import Doubt
from eval.results import WORST
from launch.exchange.export import run_export
from launch.exchange.model_card import escaped, model_card
from launch.exchange.results import Measured, read_measured
from launch.exchange.subject import Exported, Wanted
from modules.encoders.fingerprint import fingerprint
from modules.encoders.tiny import load_tiny
from tests.launch.exchange.runs import CLEAN, robust, write_judged
from tests.modules.encoders.foreign import new_clip, write_hub


@pytest.fixture(scope="module")
def subject() -> Exported:
    clip = load_tiny()
    told = {"base": {"name": "tiny", "pretrained": ""}, "objective": "fare", "threat": {"norm": "linf", "eps": 4 / 255}}
    return Exported(clip, "encoder.safetensors", told, fingerprint(clip.image))


def card(subject: Exported, measured: Measured, **said: str) -> str:
    return model_card("my-clip", subject, measured, **{"licence": "", "weights": "ab" * 32, **said})


def test_every_part_that_a_card_must_have_is_there(subject: Exported, tmp_path: Path) -> None:
    rows = [CLEAN, robust("apgd", 0.55), robust(WORST, 0.51), robust(WORST, 0.6, defense="ttc", artefact="x")]
    run = write_judged(tmp_path / "run", rows, subject.fingerprint, [Doubt("zero_gradient", "red", "It is masked.")])
    text = card(subject, read_measured([run], subject.fingerprint), licence="mit")
    for part in (
        "base model | tiny",
        "objective | fare",
        "threat | norm linf",
        "not recorded in these weights",
        "licence | mit",
        "none \\| none (clean)".replace("\\|", "|"),
        "| none | apgd | adaptive | ℓ∞ 4/255 | 55.0 (72.0–83.0) |",
        "**worst case**",
        "artefact\\: x",
        "**red**, zero\\_gradient: It is masked.",
        "rows of ttc were measured",
        "upper bound",
        "ab" * 32,
        subject.fingerprint,
        "0.3500",
    ):
        assert part in text, part
    front = yaml.safe_load(text.split("---")[1])
    assert front == {"license": "mit", "library_name": "open_clip", "tags": ["clip", "adversarial-robustness"]}


def test_a_card_without_results_says_so(subject: Exported) -> None:
    text = card(subject, Measured())
    assert "Nothing was measured on these weights. Do not call them robust." in text
    assert "nothing was checked for masked gradients" in text
    assert "not stated" in text and yaml.safe_load(text.split("---")[1])["license"] == "unknown"


def test_results_of_other_weights_are_refused(subject: Exported, tmp_path: Path) -> None:
    run = write_judged(tmp_path / "run", [CLEAN], "0" * 16)
    with pytest.raises(ConfigError, match="holds results of other weights"):
        read_measured([run], subject.fingerprint)
    assert read_measured([run]).fingerprints == {"0" * 16}
    other = write_judged(tmp_path / "other", [CLEAN], "1" * 16)
    with pytest.raises(ConfigError, match="results of several encoders"):
        read_measured([run, other])


EVIL = "<script>alert(1)</script> [x](http://e.vil) **b** `c` |d| ![i](j)\n# e \x1b[31m &amp;"


def test_names_cannot_be_markup(subject: Exported, tmp_path: Path) -> None:
    rows = [replace(CLEAN, dataset=EVIL, encoder=EVIL, defense=EVIL), robust(EVIL, 0.5, dataset=EVIL, qualifier=EVIL)]
    run = write_judged(tmp_path / "run", rows, subject.fingerprint, [Doubt(EVIL, "amber", EVIL)])
    text = card(subject, read_measured([run]), licence='mit"\nevil: yes #')
    for bad in ("<script", "\x1b", "[x](", "http:", "e.vil", "`c`", " **b**", "|d|", "\n# e", "![i]"):
        assert bad not in text, bad
    assert text.count("&lt;script") >= 5
    assert set(yaml.safe_load(text.split("---")[1])) == {"license", "library_name", "tags"}


def test_plain_words_stay_readable() -> None:
    assert escaped("ViT-L-14 openai, 4/255 (71.3)") == "ViT-L-14 openai, 4/255 (71.3)"


def test_a_hub_folder_holds_model_config_and_card(tmp_path: Path) -> None:
    write_hub(tmp_path / "in", new_clip())
    run_export(str(tmp_path / "in"), tmp_path / "out", "hub", wanted=Wanted(), results=[], licence="mit")
    text = (tmp_path / "out" / "README.md").read_text()
    assert str(tmp_path) not in text and "local-dir\\:in" in text
