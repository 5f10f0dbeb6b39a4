"""An evaluation can be interrupted, refuses what is not its own, and shows what it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from configs.files import ConfigError
from configs.load import check_config, parse_overrides, put, read_recipe
from eval.evaluate import fingerprint
from eval.harness import Evaluation, Subject, evaluate
from eval.outcomes import CLEAN, Cell
from eval.plan import Plan, build_plan
from modules.defenses import Defense, RandomNoise
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIP

SMALL = [
    "tasks.digits.limit=24",
    "attacks.apgd_ce.steps=3",
    "attacks.apgd_t.steps=2",
    "attacks.apgd_t.targets=1",
    "eot_draws=2",
    "examples=2",
]
CHEAP = "{none: {}, random_noise: {}, clipure_cos: {}, clipure_cos_legacy: {name: clipure_cos, mode: legacy}, ttc: {}}"


def config(*overrides: str, defenses: str = CHEAP) -> Any:
    said = read_recipe("evaluate", "digits")
    said["defenses"] = {}
    for path, value in parse_overrides([*SMALL, f"defenses={defenses}", *overrides]):
        put(said, path, value)
    return check_config("evaluate", said)


def run(clip: CLIP, *overrides: str, defenses: str = CHEAP, state: Path | None = None) -> Evaluation:
    plan = build_plan(config(*overrides, defenses=defenses), clip)
    subject = Subject("CLIP", "tiny", 0, fingerprint(clip.image))
    return evaluate(clip.image, plan, subject, state=state, quiet=True)


@pytest.fixture(scope="module")
def found(clip: CLIP) -> Evaluation:
    return run(clip)


def flags(found: Evaluation) -> dict[Cell, list[bool]]:
    return found.outcomes["digits"].correct


def numbers(found: Evaluation) -> list[tuple[object, ...]]:
    return [(r.defense, r.attack, r.view, r.eps, r.metric, r.value, r.low, r.high) for r in found.results]


def test_the_worst_case_counts_images_that_survive_everything(found: Evaluation) -> None:
    worst = {row.defense: row.value for row in found.results if row.attack == "worst"}
    assert set(worst) == {"none", "random_noise", "clipure_cos", "clipure_cos_legacy", "ttc"}
    for defense, value in worst.items():
        cells = [f for c, f in flags(found).items() if c.defense == defense and (c.attack == CLEAN or c.eps == 4 / 255)]
        assert value == sum(all(column) for column in zip(*cells, strict=True)) / 24


def test_every_defence_is_seen_through_the_views_it_has(found: Evaluation) -> None:
    seen = {d: {r.view for r in found.results if r.defense == d} - {"none", "worst"} for d in ("none", "ttc")}
    assert seen == {"none": {"adaptive"}, "ttc": {"transfer", "adaptive", "bpda", "eot"}}
    legacy = [r for r in found.results if r.defense == "clipure_cos_legacy"]
    assert {"released"} <= {r.view for r in legacy} and {r.artefact for r in legacy} == {"clipure-legacy"}


def test_the_curve_has_a_row_for_every_radius(found: Evaluation) -> None:
    radii = {round(r.eps * 255) for r in found.results if r.defense == "none" and r.attack == "apgd_ce"}
    assert radii == {1, 2, 4, 8}


class Interrupting(Defense):
    """Raises at the n-th look."""

    def __init__(self, encoder: ImageEncoder, looks: int) -> None:
        super().__init__(encoder)
        self.left = looks

    def purify_pixels(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return x


def planned(clip: CLIP, build: Any, *overrides: str) -> Plan:
    plan = build_plan(config("curve.eps=[]", *overrides, defenses="{none: {}, clipure_cos: {}}"), clip)
    original = plan.defend
    plan.defend = lambda name, e, task: original(name, e, task) if name == "none" else build(e)
    return plan


def test_an_interrupted_evaluation_goes_on_where_it_stopped(clip: CLIP, tmp_path: Path) -> None:
    subject = Subject("CLIP", fingerprint="f")
    whole = evaluate(clip.image, planned(clip, lambda e: Interrupting(e, -1), "batch_size=8"), subject, quiet=True)
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            clip.image,
            planned(clip, lambda e: Interrupting(e, 35), "batch_size=8"),
            subject,
            state=tmp_path,
            quiet=True,
        )
    done = sorted(tmp_path.iterdir())
    assert 0 < len(done) < 3
    stamps = [p.stat().st_mtime_ns for p in done]
    plan = planned(clip, lambda e: Interrupting(e, -1), "batch_size=8")
    again = evaluate(clip.image, plan, subject, state=tmp_path, quiet=True)
    assert numbers(again) == numbers(whole)
    assert [p.stat().st_mtime_ns for p in done] == stamps, "finished batches were done again"


def test_a_state_of_another_evaluation_is_refused(clip: CLIP, tmp_path: Path) -> None:
    run(clip, defenses="{none: {}}", state=tmp_path)
    with pytest.raises(ConfigError, match="another config"):
        run(clip, "eot_draws=3", defenses="{none: {}}", state=tmp_path)
    plan = build_plan(config(defenses="{none: {}}"), clip)
    with pytest.raises(ConfigError, match="another weights"):
        evaluate(clip.image, plan, Subject("CLIP", fingerprint="other"), state=tmp_path, quiet=True)


@pytest.mark.parametrize("damage", ["", "{", '{"config": 1}', "[]", "\x00\x01"])
def test_a_damaged_state_is_named(clip: CLIP, tmp_path: Path, damage: str) -> None:
    run(clip, defenses="{none: {}}", state=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(damage)
    with pytest.raises(ConfigError, match="is damaged .* delete it"):
        run(clip, defenses="{none: {}}", state=tmp_path)


def test_a_state_about_other_images_is_refused(clip: CLIP, tmp_path: Path) -> None:
    run(clip, defenses="{none: {}}", state=tmp_path)
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text())
    content["keys"][0] = "digits-9999"
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="other images"):
        run(clip, defenses="{none: {}}", state=tmp_path)


class Recording(RandomNoise):
    """Remembers what it was shown and the noise it drew."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder, eps=0.02)
        self.shown: list[Tensor] = []
        self.drawn: list[Tensor] = []

    def purify_pixels(self, x: Tensor) -> Tensor:
        moved = super().purify_pixels(x)
        self.shown.append(x.detach().clone())
        self.drawn.append((moved - x).detach())
        return moved


def test_every_defence_meets_the_same_static_images(clip: CLIP) -> None:
    made: list[Recording] = []

    def build(encoder: ImageEncoder) -> Recording:
        made.append(Recording(encoder))
        return made[-1]

    plan = planned(clip, build, "views=[transfer]")
    evaluate(clip.image, plan, Subject("CLIP"), quiet=True)
    task = plan.tasks[0]
    (batch,) = task.batches(256)
    from modules import noise

    with noise.samples(noise.keys_of(batch.key), seed=0, draw=0):
        static = plan.attacks["apgd_ce"].attack(task.classifier(clip.image.eval()), batch.x, batch.y)
    assert torch.allclose(made[-1].shown[1], static, atol=1e-6)


def test_a_batch_size_that_splits_a_coupled_group_is_refused(clip: CLIP) -> None:
    with pytest.raises(ConfigError, match="batch_size=25 splits the groups of 2"):
        build_plan(config("batch_size=25"), clip)


def test_a_calibrating_gate_needs_a_tuning_split_and_tells_what_it_chose(clip: CLIP) -> None:
    found = run(clip, "curve.eps=[]", defenses="{none: {}, ttc: {calibrate: true}}")
    (note,) = found.notes
    assert note["histogram"]["auc"] >= 0.5 and len(note["histogram"]["values"][0]) == 24
    with pytest.raises(ConfigError, match="calibrates on a tuning split"):
        run(clip, "tasks.digits.tune_split=test", defenses="{none: {}, ttc: {calibrate: true}}")


def test_examples_show_the_worst_view_of_every_defence(found: Evaluation) -> None:
    assert [e.defense for e in found.examples] == ["none", "random_noise", "clipure_cos", "clipure_cos_legacy", "ttc"]
    for example in found.examples:
        assert len(example.label) == 2
        assert (example.tensors["adversarial"] - example.tensors["clean"]).abs().max() <= 4 / 255 + 1e-6
        assert ("purified" in example.tensors) == (example.defense in ("random_noise", "ttc"))
