"""A prior is used with the encoder whose embeddings it knows, or every row says that it was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from configs.files import ConfigError
from data.batches import ImageBatch
from eval.harness import evaluate
from eval.plan import Plan
from eval.rows import Subject
from modules.encoders.clip import CLIP
from modules.encoders.fingerprint import fingerprint
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork, save_prior
from modules.prior.likelihood import reference_likelihood

Planned = Callable[..., Plan]
CHEAP = ("attacks={apgd: {steps: 1}}", "views=[transfer]", "tasks.digits.limit=4", "examples=0")


@pytest.fixture
def prior() -> DiffusionPrior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PriorNetwork(dim=128, depth=1, heads=2, dim_head=16, max_text_len=20, num_timesteps=20)
        return DiffusionPrior(network, NoiseSchedule(timesteps=20)).eval()


def planned_with(planned: Planned, file: Path, *more: str) -> Plan:
    return planned("defenses={none: {}, diff: {name: clipure_diff, steps: 1}}", f"prior={file}", *CHEAP, *more)


def judged(clip: CLIP, plan: Plan) -> list[tuple[str, str]]:
    subject = Subject("CLIP", fingerprint=fingerprint(clip.image))
    return sorted({(row.defense, row.qualifier) for row in evaluate(clip.image, plan, subject, quiet=True).results})


def test_a_prior_of_this_encoder_needs_no_words(
    clip: CLIP, planned: Planned, prior: DiffusionPrior, tmp_path: Path
) -> None:
    file = save_prior(prior, tmp_path / "p.safetensors", encoder=fingerprint(clip.image))
    assert judged(clip, planned_with(planned, file)) == [("diff", ""), ("none", "")]


def test_a_prior_of_another_encoder_is_refused_with_the_measured_gap_and_the_command(
    clip: CLIP, planned: Planned, prior: DiffusionPrior, tmp_path: Path
) -> None:
    own = {"mean": -0.5, "std": 0.1, "n": 100}
    file = save_prior(prior, tmp_path / "p.safetensors", encoder="0123456789abcdef", likelihood=own)
    plan = planned_with(planned, file)
    with pytest.raises(ConfigError) as caught:
        judged(clip, plan)
    line = str(caught.value)
    assert len(line.splitlines()) == 1 and str(file) in line
    assert "belongs to encoder 0123456789abcdef, not to this one" in line
    assert f"robustclip prior prior_tiny_adapt init={file} data.shards=embeddings; or say --allow-mismatch" in line
    batch: ImageBatch = next(plan.tasks[0].whole_batches(64))
    with torch.no_grad():
        z = F.normalize(clip.image.encode_image(batch.x), dim=1)
    from modules import noise

    with noise.samples(noise.keys_of(batch.key)):
        found = reference_likelihood(prior, z)["mean"]
    assert f"{(-0.5 - found) / 0.1:.1f} standard deviations less likely" in line


def test_an_allowed_mismatch_is_recorded_in_every_row_behind_the_prior_and_in_no_other(
    clip: CLIP, planned: Planned, prior: DiffusionPrior, tmp_path: Path
) -> None:
    file = save_prior(prior, tmp_path / "p.safetensors", encoder="0123456789abcdef")
    (diff, told), (none, nothing) = judged(clip, planned_with(planned, file, "allow_mismatch=true"))
    assert (diff, none, nothing) == ("diff", "none", "")
    assert told.startswith("prior of encoder 0123456789abcdef, log-likelihood -")
    assert told.endswith("here; the file does not say its own")


def test_a_prior_that_does_not_say_whose_it_is_is_not_taken_for_granted(
    clip: CLIP, planned: Planned, prior: DiffusionPrior, tmp_path: Path
) -> None:
    file = save_prior(prior, tmp_path / "p.safetensors", encoder=None)
    with pytest.raises(ConfigError, match="belongs to an unknown encoder"):
        judged(clip, planned_with(planned, file))
    assert judged(clip, planned("defenses={none: {}}", f"prior={file}", *CHEAP)) == [("none", "")]  # nobody uses it
