"""Looking into the encoder is a part of an evaluation: the same pictures however it is run, and on the page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from configs.files import ConfigError
from configs.load import load_config
from eval.evaluate import evaluate_checkpoint
from eval.looks import read_looks
from eval.merge import merge, shard_folder
from eval.report import build_report
from modules.encoders.clip import CLIP
from modules.perceptual.inversion import Inverting, invert
from modules.zero_shot.head import class_embeddings

BRIEF = (
    "tasks.digits.limit=6",
    "attacks.apgd.steps=1",
    "inversion.texts=[three,<b>eight</b>]",
    "inversion.steps=3",
    "device=cpu",
)


def judged(out: Path, *overrides: str, shard: tuple[int, int] = (1, 1)) -> Path:
    evaluate_checkpoint(load_config("evaluate", "inversion_digits", [*BRIEF, *overrides]), out, shard=shard)
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged(tmp_path_factory.mktemp("whole"), "inversion.defenses=[none,ttc]", "defenses={none: {}, ttc: {}}")


def test_the_pictures_are_those_of_the_search_itself(whole: Path, clip: CLIP) -> None:
    bare, behind = read_looks(whole)
    assert (bare.defense, behind.defense) == ("none", "ttc") and bare.steps[0] == 0 and bare.steps[-1] == 3
    config = load_config("evaluate", "inversion_digits", BRIEF)
    assert clip.text is not None and config.inversion is not None
    targets = class_embeddings(clip.text, config.inversion.texts, config.inversion.templates)
    alone = invert(clip.image, targets, Inverting(steps=3), seed=config.seed)
    torch.testing.assert_close(bare.pictures[-1], alone.x, atol=0.5 / 255 + 1e-6, rtol=0)
    assert bare.cosine == pytest.approx(alone.cosine.tolist(), abs=1e-6)


def test_a_page_shows_a_row_for_each_encoder_and_names_as_text(whole: Path, tmp_path: Path) -> None:
    page = build_report([whole], tmp_path).read_text()
    section = page[page.index('<section id="looks">') :]
    assert section.count("<h3>") >= 2 and "&lt;b&gt;eight&lt;/b&gt;" in section and "<b>eight" not in page
    assert "CLIP + ttc" in section and "3 steps" in section


def test_shards_are_joined_with_what_the_first_one_saw(tmp_path: Path) -> None:
    parts = [judged(shard_folder(tmp_path, n, 2), shard=(n, 2)) for n in (1, 2)]
    assert [len(read_looks(part)) for part in parts] == [1, 0]
    merge(parts, tmp_path / "joined")
    assert torch.equal(read_looks(tmp_path / "joined")[0].pictures, read_looks(parts[0])[0].pictures)


def test_nothing_is_looked_for_where_nobody_asks(tmp_path: Path) -> None:
    judged(tmp_path, "inversion=null")
    assert not (tmp_path / "looks").exists() and read_looks(tmp_path) == []


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "looks").mkdir()
    (tmp_path / "looks" / "step=000001.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(ConfigError, match=r"step=000001\.safetensors holds no looks"):
        read_looks(tmp_path)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("inversion.texts=[]", "inversion.texts is empty"),
        ("inversion.texts=[' ']", "inversion.texts: ' ' is empty"),
        ("inversion.templates=[photo]", "inversion.templates: 'photo' must hold one {}"),
        ("inversion.templates=[]", "inversion.templates is empty"),
        ("inversion.defenses=[ttc]", "inversion.defenses: 'ttc' is none of the defenses: none"),
        ("inversion.steps=0", "inversion: an inversion takes at least one step"),
        ("inversion.radius=-1", "inversion: radius is -1"),
        ("curve.eps=[1]", "curve.defenses is empty, so no curve is drawn"),
    ],
)
def test_faults_are_told_before_anything_starts(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("evaluate", "inversion_digits", [override])
    assert told in str(caught.value)
