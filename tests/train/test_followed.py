"""What a fine-tuning run is followed by beside classes: forced choice and retrieval, checkpoint by checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from configs.load import load_config
from eval.looks import read_looks
from eval.report import build_report
from eval.results import read_results
from train.finetune import finetune
from train.runs import open_run

FOLLOWED = (
    "evaluation.recipe=checkpoint_perceptual",
    "evaluation.tasks.digit-triplets.limit=4",
    "evaluation.tasks.digits-search.limit=4",
    "evaluation.attacks.apgd.steps=2",
    "evaluation.inversion.steps=2",
    "evaluation.watch=0",
)
SHORT = ("optimizer.max_steps=4", "optimizer.warmup_steps=1", "data.batch_size=8", "attack.steps=1")


def test_choice_and_retrieval_are_followed_over_checkpoints_and_the_page_shows_them(tmp_path: Path) -> None:
    config = load_config("finetune", "fare_tiny_eps4", [*SHORT, "trainer.checkpoint_every=2", *FOLLOWED])
    finetune(open_run("run", config, tmp_path / "run"))
    rows = read_results(tmp_path / "run" / "results.jsonl")
    for task, dataset in (("2afc", "digit-triplets"), ("retrieval", "digits-search")):
        mine = [row for row in rows if (row.task, row.dataset) == (task, dataset)]
        for metric in ("clean_accuracy", "robust_accuracy"):
            assert {row.step for row in mine if row.metric == metric} == {2, 4}
    precision = [row for row in rows if row.metric == "average_precision" and row.attack == "worst"]
    assert [row.step for row in precision] == [2, 4]
    page = build_report([tmp_path / "run"], tmp_path / "page").read_text()
    (training,) = re.findall(r'<section id="training">.*?</section>', page, re.DOTALL)
    for dataset in ("digit-triplets", "digits-search"):
        assert dataset in training
    assert training.count("<svg") >= 2
    looks = read_looks(tmp_path / "run")
    assert [look.step for look in looks] == [2, 4] and not torch.equal(looks[0].pictures, looks[1].pictures)
    assert "R-CLIP_F, step 4" in page[page.index('<section id="looks">') :]
