"""Two processes train and validate a prior as one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.load import load_config
from modules.prior.storage import prior_metadata
from tests.train.test_distributed import TWO, largest_difference, robustclip
from tests.train.test_prior import SMALL, column, exported
from train.embed import embed
from train.prior import train_prior
from train.runs import open_run


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_learn_and_validate_what_one_does(tmp_path: Path) -> None:
    """The same pairs meet the same noise; 20 held-out pairs in batches of 7, 6 and 7 are counted once each."""
    shards = embed(load_config("embed", "tiny", ["data.split=tune", "text=caption"]), tmp_path / "embeddings")
    # Adam divides by a gradient's own size: a large eps keeps two orders of summation together
    told = [*SMALL, f"data.shards={shards}", "trainer.accumulate=2", "validation.batch_size=7", "optimizer.eps=1.0"]
    train_prior(open_run("prior", load_config("prior", "prior_tiny", told), tmp_path / "one"))
    ended = robustclip(tmp_path, "prior", "prior_tiny", *told, *TWO, "--out", str(tmp_path / "two"))
    assert ended.returncode == 0, ended.stderr
    one, two = tmp_path / "one", tmp_path / "two"
    names = (one / "metrics.csv").read_text().splitlines()[0].split(",")
    assert "val/denoising/0050-0099" in names and "train/loss" in names
    for name in names[1:]:
        assert column(two, name) == pytest.approx(column(one, name), rel=1e-4, abs=1e-5), name
    assert largest_difference(exported(one), exported(two)) < 1e-5
    assert ended.stdout.count("step 4: validation") == 1 == ended.stdout.count("the prior's health")
    likelihoods = [prior_metadata(run / "export")["likelihood"] for run in (one, two)]
    assert likelihoods[1] == pytest.approx(likelihoods[0], rel=1e-4)
