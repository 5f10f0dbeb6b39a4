"""``robustclip distance`` and ``robustclip invert`` as a user meets them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.sample import digits
from modules.checkpoint import save_tower
from modules.encoders import load_clip
from modules.perceptual import PerceptualMetric
from tests.launch.typed import typed

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The command in this process, in a folder with pictures: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    source = digits("test")
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        Image.fromarray(source.pixels[number]).save(name)
    grey = Image.fromarray(source.pixels[1]).convert("L").resize((57, 90))
    grey.save("grey.jpg")
    grey.convert("P").save("palette.gif")
    grey.convert("RGBA").save("alpha.png")
    Image.fromarray(np.arange(10_000, dtype=np.uint16).reshape(100, 100) * 6).save("deep.png")
    Path("text.png").write_text("hello")
    Path("empty.png").touch()

    def command(*words: str) -> tuple[int, str, str]:
        code = typed(monkeypatch, *words)
        told = capsys.readouterr()
        return code, told.out, told.err

    return command


def test_two_pictures_are_as_far_apart_as_the_metric_says(run: Run) -> None:
    code, out, _ = run("distance", "a.png", "b.png")
    x = torch.from_numpy(digits("test").pixels[:2]).permute(0, 3, 1, 2).float() / 255
    expected = PerceptualMetric(load_clip("tiny").image)(x[:1], x[1:]).item()
    assert code == 0 and float(out.splitlines()[0]) == pytest.approx(expected, abs=1e-4)
    assert "only seen handwritten digits" in out and "seen by tiny" in out
    assert run("distance", "a.png", "a.png")[1].startswith("0.0000")


def test_pictures_of_any_size_and_mode_have_distances_and_a_table_is_symmetric(run: Run) -> None:
    names = ["a.png", "grey.jpg", "palette.gif", "alpha.png", "deep.png"]
    code, out, _ = run("distance", *names, "--json", "-", "--defense", "random_noise")
    record = json.loads(out)
    table = np.array(record["distances"])
    assert code == 0 and record["images"] == names and record["encoders"] == ["tiny + random_noise"]
    assert np.array_equal(table, table.T) and (table.diagonal() == 0).all() and (table >= 0).all()
    code, out, _ = run("distance", *names[:3], "--json", "found.json")
    assert code == 0 and "palette.gif" in out and len(json.loads(Path("found.json").read_text())["distances"]) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["distance", "a.png"], "between two images or more"),
        (["distance", "a.png", "missing.png"], "no image at missing.png"),
        (["distance", "a.png", "."], "no image at ."),
        (["distance", "a.png", "text.png"], "text.png: not an image"),
        (["distance", "a.png", "empty.png"], "empty.png: empty"),
        (["distance", "a.png", "b.png", "--model", "tinny"], "unknown model 'tinny'; near it: tiny"),
        (["distance", "a.png", "b.png", "--defense", "ttx"], "unknown defense 'ttx'"),
        (
            ["distance", "a.png", "b.png", "--defense", "{name"],
            "--defense {name is no defence",
        ),
        (["distance", "a.png", "b.png", "--checkpoint", "missing.safetensors"], "no checkpoint at missing.safetensors"),
        (["invert", "tiny"], "nothing to look for"),
        (["invert", "tiny", "--text", ""], "--text '' is empty"),
        (["invert", "tiny", "--text", " "], "is empty"),
        (["invert", "tiny", "--image", "missing.png"], "no image at missing.png"),
        (["invert", "tiny", "--image", "text.png"], "text.png: not an image"),
        (["invert", "tiny", "--text", "three", "--start", "gray"], "--start takes grey, noise or a file"),
        (["invert", "tiny", "--text", "three", "--steps", "0"], "at least one step"),
        (["invert", "tiny", "--text", "three", "--radius", "-1"], "radius is -1.0"),
        (["invert", "tiny", "--text", "three", "--template", "a photo"], "a photo"),
        (["invert", "missing.safetensors", "--text", "three"], "missing.safetensors"),
        (["demo", "perceptuel"], "unknown demo 'perceptuel'"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(run: Run, words: list[str], told: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert told in err and len(err.splitlines()) == 1 and err.startswith("robustclip: ")


def test_an_inversion_leaves_a_page_pictures_and_numbers_of_both_encoders(run: Run) -> None:
    words = ["--text", "three <b>", "--image", "a.png", "--base", "tiny", "--steps", "4", "--out", "found"]
    code, out, _ = run("invert", "tiny", *words)
    assert code == 0 and out.count("cosine") == 4 and "gallery: found/index.html" in out
    record = json.loads(Path("found/inversion.json").read_text())
    assert record["settings"]["steps"] == 4 and record["settings"]["radius"] == 10.0
    assert [(f["target"], f["encoder"]) for f in record["found"][:2]] == [
        ("three <b>", "tiny"),
        ("three <b>", "tiny (2)"),
    ]
    assert record["found"][0]["cosine"] == record["found"][1]["cosine"]  # the same encoder, start and looks
    for found in record["found"]:
        with Image.open(Path("found") / found["file"]) as picture:
            assert picture.size == (32, 32)
    page = Path("found/index.html").read_text()
    assert "<b>" not in page and "three &lt;b&gt;" in page and not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert run("invert", "tiny", "--text", "two", "--steps", "2", "--out", "found")[0] == 0  # our own folder
    code, _, err = run("invert", "tiny", "--text", "two", "--out", ".")
    assert code == 2 and "holds other files" in err


def test_what_a_checkpoint_is_compared_with_need_not_be_its_base(run: Run) -> None:
    visual = copy.deepcopy(load_clip("tiny").image.visual)
    with torch.no_grad():
        for weights in visual.parameters():
            weights.mul_(1.01)
    save_tower(visual, Path("mine.safetensors"), encoder="mine", base={"name": "tiny", "pretrained": ""})
    words = ["mine.safetensors", "--text", "two", "--steps", "1", "--out", "found"]
    assert [line.split("  ")[1] for line in run("invert", *words)[1].splitlines()[:2]] == ["tiny", "mine"]
    code, out, _ = run("invert", *words, "--base", "mine.safetensors")
    assert code == 0 and "mine (2)" in out
    code, _, err = run("invert", *words, "--base", "tinny")
    assert code == 2 and "unknown model 'tinny'" in err and len(err.splitlines()) == 1


def test_an_image_can_be_asked_to_become_another_inside_a_ball(run: Run) -> None:
    words = ["--text", "eight", "--start", "a.png", "--radius", "1", "--steps", "5", "--step-size", "2", "--out", "o"]
    code, out, _ = run("invert", "tiny", *words)
    assert code == 0 and "distance 1.0" in out
    code, out, _ = run("invert", "tiny", "--text", "eight", "--defense", "low_pass", "--steps", "2", "--out", "p")
    assert code == 0 and "tiny + low_pass" in out and out.count("cosine") == 2
