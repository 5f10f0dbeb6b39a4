"""The recipe that made the embedded model."""

from __future__ import annotations

from pathlib import Path

from configs.load import load_config
from modules.encoders.tiny import load_tiny
from train.pretrain import pretrain
from train.runs import open_run


def test_a_few_steps_lower_the_loss_and_the_export_loads(tmp_path: Path) -> None:
    settings = ["optimizer.max_steps=12", "optimizer.warmup_steps=2", "data.batch_size=64", "trainer.log_every=1"]
    export = pretrain(open_run("tiny", load_config("pretrain", "tiny", settings), tmp_path / "run"))
    assert load_tiny(path=export).image.embedding_dim == 128
    losses = [float(row.split(",")[1]) for row in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]]
    assert sum(losses[-3:]) < sum(losses[:3])
