from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from configs.files import ConfigError
from eval.metrics import wilson
from eval.report import build_report
from eval.results import Result, write_results
from tests.waiting import CEILING

N = 300
# defence: (clean, {(attack, view): robust}, worst), per encoder; the shape of real findings.
BARE = {"CLIP": (0.91, 0.12), "R-CLIP_F": (0.83, 0.71)}
DEFENDED: dict[tuple[str, str], tuple[float, dict[tuple[str, str], float], float]] = {
    ("CLIP", "ttc"): (
        0.88,
        {
            ("pgd", "transfer"): 0.55,
            ("apgd", "transfer"): 0.49,
            ("pgd", "bpda"): 0.17,
            ("apgd", "eot"): 0.14,
            ("square", "adaptive"): 0.31,
        },
        0.113,
    ),
    ("CLIP", "clipure_cos"): (
        0.91,
        {
            ("apgd", "transfer"): 0.13,
            ("apgd", "adaptive"): 0.123,
            ("apgd", "released"): 0.82,
        },
        0.12,
    ),
    ("R-CLIP_F", "ttc"): (
        0.82,
        {
            ("pgd", "transfer"): 0.76,
            ("apgd", "transfer"): 0.74,
            ("apgd", "bpda"): 0.713,
            ("apgd", "eot"): 0.7,
        },
        0.697,
    ),
    ("R-CLIP_F", "clipure_legacy"): (
        0.83,
        {("apgd", "transfer"): 0.82, ("apgd", "adaptive"): 0.8},
        0.79,
    ),
    ("R-CLIP_F", "tte"): (0.84, {("apgd", "transfer"): 0.77}, 0.77),
}


def made(
    encoder: str,
    defense: str,
    attack: str,
    view: str,
    value: float,
    *,
    eps: int = 4,
    step: int = 0,
    artefact: str = "",
) -> Result:
    k = round(value * N)
    clean = attack == "none"
    return Result(
        *("classification", "digits", N, f"{encoder}.pt", step, encoder, defense, attack, view),
        *("none" if clean else "linf", 0.0 if clean else eps / 255),
        *("clean_accuracy" if clean else "robust_accuracy", k / N, *wilson(k, N)),
        *(1.5, 7, "c0ffee", artefact),
    )


def synthetic() -> list[Result]:
    rows = []
    for encoder, (clean, worst) in BARE.items():
        step = 600 if encoder == "R-CLIP_F" else 0
        rows.append(made(encoder, "none", "none", "none", clean, step=step))
        for eps, factor in ((2, 1.12), (4, 1.0), (8, 0.55)):
            rows += [
                made(encoder, "none", "pgd", "adaptive", worst * factor + 0.02, eps=eps, step=step),
                made(encoder, "none", "apgd", "adaptive", worst * factor, eps=eps, step=step),
                made(encoder, "none", "worst", "worst", worst * factor, eps=eps, step=step),
            ]
    for (encoder, defense), (clean, attacks, worst) in DEFENDED.items():
        step = 600 if encoder == "R-CLIP_F" else 0
        label = "clipure-legacy" if "legacy" in defense else ""
        rows.append(made(encoder, defense, "none", "none", clean, step=step))
        for (attack, view), value in attacks.items():
            rows.append(made(encoder, defense, attack, view, value, step=step, artefact=label))
        for eps, factor in ((2, 1.07), (4, 1.0), (8, 0.5)):
            value = worst * factor
            rows.append(made(encoder, defense, "worst", "worst", value, eps=eps, step=step, artefact=label))
    for step in range(0, 600, 100):
        rows.append(made("R-CLIP_F", "none", "worst", "worst", 0.12 + step / 1050, step=step))
        rows.append(made("R-CLIP_F", "none", "none", "none", 0.9 - step / 8000, step=step))
    rows.append(replace(made("CLIP", "ttc", "gradient", "bpda", 0.25), metric="zero_gradients"))
    return rows


def add_examples(folder: Path) -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 32, dtype=np.float32)
    clean = np.stack([np.broadcast_to(np.roll(ramp, 5 * i), (3, 32, 32)) for i in range(5)])
    shift = np.sign(rng.standard_normal(clean.shape)).astype(np.float32) * 4 / 255
    tensors = {
        "clip/ttc/clean": clean.copy(),
        "clip/ttc/adversarial": np.clip(clean + shift, 0, 1),
        "clip/ttc/purified": np.clip(clean + shift / 2, 0, 1),
        "clip/none/clean": clean.copy(),
        "clip/none/adversarial": np.clip(clean - shift, 0, 1),
    }
    save_file(tensors, folder / "examples.safetensors")
    common = {"encoder": "CLIP", "attack": "apgd", "norm": "linf", "eps": 4 / 255}
    common |= {"file": "examples.safetensors", "classes": ["zero", "one", "two", "three", "four"]}
    labels = {"label": [0, 1, 2, 3, 4], "prediction_clean": [0, 1, 2, 3, 3]}
    seen = {"prediction_adversarial": [3, 1, 4, 2, 0]}
    entries = [
        {**common, **labels, **seen, "defense": d, "view": v, "prefix": f"clip/{d}"}
        | {"prediction_purified": [0, 1, 4, 3, 4] if d == "ttc" else None}
        for d, v in (("ttc", "bpda"), ("none", "adaptive"))
    ]
    (folder / "examples.json").write_text(json.dumps(entries))


def make_run(folder: Path, rows: list[Result] | None = None, *, extras: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.jsonl", synthetic() if rows is None else rows)
    (folder / "config.yaml").write_text("model:\n  name: tiny\nweights: https://example.org/w.pt\n")
    environment = {
        "versions": {"python": "3.12.1", "torch": "2.13.0"},
        "started": "2025-01-01T12:00:00+00:00",
        "seconds": 84.2,
        "seed": 7,
        "command": "robustclip evaluate fare_tiny",
        "phases": {"clean": 2.1, "attack": 81.0},
    }
    (folder / "env.json").write_text(json.dumps(environment))
    if extras:
        rng = np.random.default_rng(1)
        lines = [f"{s},{'' if s % 2 else 2 / (1 + s / 80) + 0.1 * rng.random()}" for s in range(600)]
        (folder / "metrics.csv").write_text("step,train/loss\n" + "\n".join(lines))
        values = [rng.normal(0.12, 0.03, 300).tolist(), rng.normal(0.25, 0.05, 300).tolist()]
        shape = {"title": "Drift under noise", "labels": ["clean", "adversarial"], "values": values}
        shape |= {"threshold": 0.17, "direction": "below", "auc": 0.981}
        text = "The gate was calibrated on 300 training images that no number here uses."
        (folder / "notes.json").write_text(json.dumps([{"title": "TTC calibration", "text": text, "histogram": shape}]))
        add_examples(folder)
    return folder


def page_of(folder: Path, out: Path) -> str:
    return build_report([folder], out).read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    base = tmp_path_factory.mktemp("report")
    return page_of(make_run(base / "fare_tiny" / "first", extras=True), base / "out")


class Outside(HTMLParser):
    """Collects whatever a browser would run or load, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.loads.append(f"{name}={value}")
            inside = (value or "").startswith(("#", "data:image/png;base64,"))
            if name in ("src", "href", "xlink:href", "srcset", "action", "data") and not inside:
                self.loads.append(f"{name}={value}")


def loads(text: str) -> Outside:
    parser = Outside()
    parser.feed(text)
    return parser


def worst_cells(text: str) -> list[str]:
    return re.findall(r'<td class="worst.*?</td>', text, flags=re.S)


def test_the_page_loads_and_runs_nothing(page: str) -> None:
    found = loads(page)
    assert found.loads == []
    assert not found.tags & {"script", "link", "iframe", "object", "embed", "form"}
    assert "url(" not in re.sub(r"url\(#", "", page)
    assert "default-src 'none'" in page


def test_the_check_for_outside_requests_sees_a_planted_one() -> None:
    assert loads('<img src="https://example.org/a.png">').loads
    assert loads('<p onclick="x()">').loads


def test_headline_cells_equal_the_rows(page: str) -> None:
    head = page[page.index('id="headline"') : page.index('id="views"')]
    shown = {unescape(v) for v in re.findall(r'class="value">([\d.]+)<', head)}
    for row in synthetic():
        if row.attack == "worst" and (row.step == 600 or row.encoder == "CLIP"):
            assert f"{100 * row.value:.1f}" in shown
            assert f"{100 * row.low:.1f}–{100 * row.high:.1f}" in head


def test_view_tables_hold_every_single_attack(page: str) -> None:
    views = page[page.index('id="views"') : page.index('id="words"')]
    for attacks in (DEFENDED[key][1] for key in DEFENDED):
        for (attack, view), value in attacks.items():
            assert f">{attack}</th>" in views
            assert f'<th scope="row">{view}</th>' in views
            assert f'class="value">{100 * round(value * N) / N:.1f}<' in views


def test_every_number_is_in_the_csv(tmp_path: Path) -> None:
    build_report([make_run(tmp_path / "run")], tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        values = [float(line["value"]) for line in csv.DictReader(file)]
    assert values == [row.value for row in synthetic()]


def test_the_verdict_follows_from_the_intervals(page: str) -> None:
    lead = page[page.index('class="lead"') : page.index("<nav")]
    assert "CLIP keeps 12 % of 300 images under the strongest attack tried." in lead
    assert "R-CLIP_F keeps 71 % of 300 images under the strongest attack tried." in lead
    assert "Neither defence on top raises the worst case by more than its interval." in lead
    assert "On top, ttc does not raise the worst case by more than its interval." in lead
    held_back = "clipure_legacy (artefact: clipure-legacy) and tte (no adaptive attack)"
    assert f"No claim about {held_back}." in lead


def test_a_defence_with_intervals_apart_is_said_to_raise(tmp_path: Path) -> None:
    rows = [made("CLIP", "none", "worst", "worst", 0.2)]
    rows += [made("CLIP", "tte", a, v, 0.6) for a, v in (("pgd", "eot"), ("worst", "worst"))]
    text = page_of(make_run(tmp_path / "run", rows), tmp_path / "out")
    assert "On top, tte (60 %) raises the worst case, the intervals apart." in text


def test_words_name_gap_strongest_attack_and_released_view(page: str) -> None:
    words = page[page.index('id="words"') : page.index('id="training"')]
    assert "leave 49 %" in words and "leaves 11 %, 37.7 points lower" in words
    assert "strongest single attack was apgd through the eot view: 14 %" in words
    assert "Through the released gradient it keeps 82 %, through the exact one 12 %." in words
    assert "Tried: pgd (transfer, bpda), apgd (transfer, eot), square (adaptive)." in words


def test_digits_are_called_a_stand_in(page: str, tmp_path: Path) -> None:
    assert "do not transfer to CLIP" in page
    rows = [replace(r, dataset="imagenet") for r in synthetic()]
    text = page_of(make_run(tmp_path / "run", rows), tmp_path / "out")
    assert "do not transfer to CLIP" not in text


def test_an_artefact_has_a_tag_and_no_colour(page: str) -> None:
    cells = worst_cells(page)
    flagged = [c for c in cells if "79.0" in c]
    assert flagged
    for cell in flagged:
        assert 'class="worst flagged"' in cell
        assert "artefact: clipure-legacy" in cell
        assert "--share" not in cell
    assert any("--share:0.710" in c and "tag" not in c for c in cells)
    released = re.findall(r"<td[^>]*>\s*<span class=\"value\">82\.0.*?</td>", page, flags=re.S)
    assert any("artefact: released gradient" in cell and "flagged" in cell for cell in released)


def test_nothing_is_painted_green() -> None:
    style = (Path(build_report.__code__.co_filename).parent / "pages/style.css").read_text()
    for name, colour in re.findall(r"--(heat|flag|s\d|flag-paper): #([0-9a-f]{6})", style):
        red, green, blue = (int(colour[i : i + 2], 16) for i in (0, 2, 4))
        assert green <= max(red, blue), name
    assert "green" not in style


def test_flagged_cells_are_not_bold_in_the_style(page: str) -> None:
    assert re.search(r"td\.worst\.flagged \.value[^{]*\{ font-weight: 400", page)


def test_all_sections_come_in_order(page: str) -> None:
    order = re.findall(r'<section id="(\w+)"', page)
    expected = "headline views words training radius pictures notes run"
    assert order == expected.split()
    assert [a for a in re.findall(r'<a href="#(\w+)"', page)] == order


def test_absent_extras_leave_no_empty_section(tmp_path: Path) -> None:
    rows = [made("CLIP", "none", "worst", "worst", 0.2)]
    text = page_of(make_run(tmp_path / "run", rows), tmp_path / "out")
    assert re.findall(r'<section id="(\w+)"', text) == ["headline", "views", "words", "run"]


def test_ids_are_unique_and_pictures_have_a_text(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page))
    assert {a or b for a, b in targets} <= set(ids)
    assert page.count("<img ") == len(re.findall(r'<img src="[^"]+" alt="[^"]{8,}"', page)) > 0
    assert page.count("<svg ") == len(re.findall(r'<svg [^>]*role="img" aria-label="', page)) > 3


def test_run_facts_are_shown(page: str) -> None:
    for fact in ("robustclip evaluate fare_tiny", "fare_tiny/first", "2.13.0", "81.0 s", "tiny"):
        assert fact in page
    assert "zero_gradients" in page


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", extras=True)
    code = "import sys; from pathlib import Path; from eval.report import build_report\n"
    code += "build_report([Path(sys.argv[1])], Path(sys.argv[2]))"
    root = Path(build_report.__code__.co_filename).parent.parent
    for out in ("a", "b"):
        command = [sys.executable, "-c", code, str(run), str(tmp_path / out)]
        subprocess.run(command, check=True, cwd=root, timeout=CEILING)
    for name in ("index.html", "results.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


HOSTILE = "</td><script>alert(1)</script>\"'{{7*7}}\x1b[31m\n$x_"


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    rows = [replace(r, encoder=HOSTILE, attack=r.attack + "<b>") for r in synthetic()[:4]]
    rows += [replace(r, encoder=HOSTILE, defense="=cmd()", artefact=HOSTILE) for r in synthetic()[:8]]
    rows = [replace(r, attack=r.attack if "worst" not in r.attack else "worst") for r in rows]
    run = make_run(tmp_path / "run", rows, extras=True)
    (run / "config.yaml").write_text("a: <script>alert(2)</script>\nb: \x1b[5m")
    (run / "notes.json").write_text(json.dumps([{"title": "<script>", "text": "<img src=x>"}]))
    text = page_of(run, tmp_path / "out")
    found = loads(text)
    assert "script" not in found.tags
    assert found.loads == []
    assert "\x1b" not in text
    assert "{{7*7}}" in text
    table = (tmp_path / "out" / "results.csv").read_text()
    assert "\x1b" not in table
    assert ",'=cmd()," in table


def test_runs_that_agree_are_merged(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in "ab"]
    build_report(runs, tmp_path / "out")
    lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + len(synthetic())


def test_runs_that_disagree_keep_both_numbers(tmp_path: Path) -> None:
    first = [made("CLIP", "none", "worst", "worst", 0.2)]
    second = [made("CLIP", "none", "worst", "worst", 0.4)]
    runs = [make_run(tmp_path / "a", first), make_run(tmp_path / "b", second)]
    text = build_report(runs, tmp_path / "out").read_text()
    assert "CLIP (" in text and "/a)" in text and "/b)" in text
    assert ">20.0<" in text and ">40.0<" in text


def delete(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).write_text(text)

    return damage


def contradict(run: Path) -> None:
    row = made("CLIP", "none", "worst", "worst", 0.2)
    write_results(run / "results.jsonl", [row, replace(row, value=0.9)])


def outside(run: Path) -> None:
    entries = json.loads((run / "examples.json").read_text())
    entries[0]["file"] = "../secret.safetensors"
    (run / "examples.json").write_text(json.dumps(entries))


def wordy_label(run: Path) -> None:
    entries = json.loads((run / "examples.json").read_text())
    entries[0]["label"] = ["zero"]
    (run / "examples.json").write_text(json.dumps(entries))


def unknown_prefix(run: Path) -> None:
    entries = json.loads((run / "examples.json").read_text())
    entries[0]["prefix"] = "no/such"
    (run / "examples.json").write_text(json.dumps(entries))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (delete("results.jsonl"), "no results at"),
        (delete("config.yaml"), "no config.yaml in"),
        (delete("env.json"), "no env.json in"),
        (delete("examples.safetensors"), "no examples.safetensors in"),
        (write("results.jsonl", ""), "holds no row"),
        (write("results.jsonl", "nonsense"), "is not a result row"),
        (write("env.json", "{"), "is not valid JSON"),
        (write("env.json", "[]"), "must hold one JSON object"),
        (write("env.json", '{"phases": {"a": "x"}}'), "phases.a must be a number"),
        (write("env.json", '{"seconds": "x"}'), "seconds must be a number"),
        (write("notes.json", '[{"title": "x"}]'), "entry 0 lacks text"),
        (
            write("notes.json", '[{"title": "x", "text": "", "histogram": {"values": []}}]'),
            "needs two labels",
        ),
        (write("metrics.csv", "step,train/loss\n1,abc"), "metrics.csv:2"),
        (write("examples.json", "{}"), "must hold a list"),
        (write("examples.safetensors", "broken"), "examples.safetensors"),
        (contradict, "two values"),
        (outside, "secret"),
        (wordy_label, "label must be a list of class numbers"),
        (unknown_prefix, "no/such"),
    ],
)
def test_a_damaged_run_is_one_line(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    run = make_run(tmp_path / "run", synthetic()[:4], extras=True)
    damage(run)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        build_report([run], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "index.html").exists()


def test_no_run_and_no_folder_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give at least one run folder"):
        build_report([], tmp_path)
    with pytest.raises(ConfigError, match="no run folder at"):
        build_report([tmp_path / "nowhere"], tmp_path)


def test_a_run_of_clean_images_alone_has_its_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", synthetic()[:4], extras=False)
    write_results(run / "results.jsonl", [made("CLIP", "none", "none", "none", 0.9)])
    page = build_report([run], tmp_path / "report").read_text()
    assert "no attack" in page and "nothing attacked them" in page and "What the attacker followed" not in page
