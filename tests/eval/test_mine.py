"""The harness: what a row counts, and what no row depends on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from configs.files import ConfigError
from configs.load import load_config
from eval.evaluate import fingerprint
from eval.harness import Evaluation, Subject, evaluate
from eval.metrics import wilson
from eval.outcomes import CLEAN, Cell
from eval.plan import Plan, build_plan
from modules.attacks import APGD
from modules.defenses import Defense, RandomNoise
from modules.encoders.base import ImageEncoder
from modules.encoders.clip import CLIP
from modules.encoders.tiny import load_tiny

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
    from configs.load import check_config, parse_overrides, put, read_recipe

    said = read_recipe("evaluate", "digits")
    said["defenses"] = {}
    for path, value in parse_overrides([*SMALL, f"defenses={defenses}", *overrides]):
        put(said, path, value)
    return check_config("evaluate", said)


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return load_tiny()


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


def test_a_row_counts_images_that_are_right_clean_and_attacked(found: Evaluation) -> None:
    by_cell = flags(found)
    for row in found.results:
        if row.attack == "worst":
            continue
        attacked = by_cell[Cell(row.defense, row.attack, row.view, row.eps)]
        clean = by_cell[Cell(row.defense)]
        count = sum(a and c for a, c in zip(attacked, clean, strict=True))
        assert row.value == count / 24 and (row.low, row.high) == wilson(count, 24)
        assert row.metric == ("clean_accuracy" if row.attack == CLEAN else "robust_accuracy")


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


def test_numbers_do_not_depend_on_the_batch_size(clip: CLIP, found: Evaluation) -> None:
    assert numbers(run(clip, "batch_size=10")) == numbers(found)


def test_numbers_do_not_depend_on_the_order_of_the_plan(clip: CLIP, found: Evaluation) -> None:
    reordered = "{ttc: {}, clipure_cos: {}, none: {}}"
    again = numbers(run(clip, defenses=reordered))
    assert set(again) <= set(numbers(found)) and len(again) > 10


def test_the_same_seed_gives_the_same_numbers_and_moves_no_global_generator(clip: CLIP, found: Evaluation) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # pyright: ignore
    again = run(clip)
    assert numbers(again) == numbers(found)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # pyright: ignore


def test_a_radius_of_zero_is_clean(clip: CLIP) -> None:
    rows = run(clip, "threat.eps=0.0", "curve.eps=[]", defenses="{none: {}, clipure_cos: {}}").results
    for defense in ("none", "clipure_cos"):
        assert len({r.value for r in rows if r.defense == defense}) == 1


def test_mode_and_gradient_flags_of_the_encoder_are_restored(clip: CLIP) -> None:
    clip.image.train().requires_grad_(True)
    run(clip, defenses="{none: {}}")
    assert clip.image.training and all(p.requires_grad for p in clip.image.parameters())


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


class Broken(Defense):
    """Returns numbers that are none, or too few of them."""

    def __init__(self, encoder: ImageEncoder, kind: str) -> None:
        super().__init__(encoder)
        self.kind = kind

    def purify_latent(self, z: Tensor) -> Tensor:
        return z * float("nan") if self.kind == "nan" else z[:-1]


@pytest.mark.parametrize("kind", ["nan", "short"])
def test_a_defence_that_returns_nonsense_is_named(clip: CLIP, kind: str) -> None:
    plan = planned(clip, lambda e: Broken(e, kind))
    with pytest.raises(ValueError, match="Broken returned (embeddings that are not finite|.* instead of embeddings)"):
        evaluate(clip.image, plan, Subject("CLIP"), quiet=True)


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


def test_the_attacker_never_sees_the_noise_it_is_scored_on(clip: CLIP) -> None:
    made: list[Recording] = []

    def build(encoder: ImageEncoder) -> Recording:
        made.append(Recording(encoder))
        return made[-1]

    evaluate(clip.image, planned(clip, build, "views=[adaptive]"), Subject("CLIP"), quiet=True)
    drawn = [d for d in made[-1].drawn if len(d) == 24]
    scoring = drawn[0]  # the first look is the clean score
    assert any(torch.allclose(scoring, d, atol=1e-6) for d in drawn[1:]), "scores share their draw"
    assert not torch.allclose(scoring, drawn[1], atol=1e-3), "the attack's draw"


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


def test_the_released_gradient_of_legacy_cos_flatters_and_the_exact_one_does_not(found: Evaluation) -> None:
    legacy = {r.view: r.value for r in found.results if r.defense == "clipure_cos_legacy" and r.attack != "apgd_t"}
    assert legacy["released"] > legacy["adaptive"] + 0.3


def test_the_embedded_model_reads_digits_and_breaks_under_attack(clip: CLIP) -> None:
    plan = build_plan(config("tasks.digits.limit=null", defenses="{none: {}}"), clip)
    (batch,) = plan.tasks[0].batches(300)
    classifier = plan.tasks[0].classifier(clip.image.freeze())
    with torch.no_grad():
        right = classifier(batch.x).argmax(dim=1) == batch.y
        x_adv = APGD(plan.threat, steps=20)(classifier, batch.x, batch.y, compact=True)
        robust = right & (classifier(x_adv).argmax(dim=1) == batch.y)
    assert len(batch) == 300
    assert right.float().mean() >= 0.95 and robust.float().mean() <= 0.25


def test_examples_show_the_worst_view_of_every_defence(found: Evaluation) -> None:
    assert [e.defense for e in found.examples] == ["none", "random_noise", "clipure_cos", "clipure_cos_legacy", "ttc"]
    for example in found.examples:
        assert len(example.label) == 2
        assert (example.tensors["adversarial"] - example.tensors["clean"]).abs().max() <= 4 / 255 + 1e-6
        assert ("purified" in example.tensors) == (example.defense in ("random_noise", "ttc"))


def test_a_recipe_builds_its_plan_with_a_prior_only_if_it_asks_for_one() -> None:
    with pytest.raises(ConfigError, match="needs a prior"):
        load_config("evaluate", "digits")
