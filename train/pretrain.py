"""``robustclip pretrain tiny``: the recipe that made the embedded model."""

from __future__ import annotations

import time
from pathlib import Path

from configs.schema import PretrainConfig
from data.catalog import open_images
from modules.encoders.tiny import ARCHITECTURE, MEAN, STD, new_tiny, save_tiny
from modules.lightning.pretraining import ContrastivePretraining
from train.datamodules import reading_of
from train.runs import Run, identity_of
from train.trainer import fit, optimizer_settings


def pretrain(run: Run) -> Path:
    """The file of the trained tiny CLIP.

    Raises:
        ValueError: the data cannot be read or has no class names.
    """
    from open_clip.tokenizer import SimpleTokenizer

    config: PretrainConfig = run.config
    export = run.folder / "export" / "tiny.safetensors"
    if run.finished:
        return export
    begin = time.perf_counter()
    size = ARCHITECTURE["vision_cfg"]["image_size"]
    source = open_images(config.data.shards, config.data.split, size, reading=reading_of(config.data))
    if not source.classes:
        raise ValueError(f"{config.data.shards} names no classes to write captions from")
    model = new_tiny(config.seed)
    module = ContrastivePretraining(
        model,
        SimpleTokenizer(context_length=ARCHITECTURE["text_cfg"]["context_length"]),
        source.classes,
        source.templates,
        mean=MEAN,
        std=STD,
        settings=optimizer_settings(config.optimizer),
    )
    steps = config.optimizer.max_steps
    trainer = fit(module, source, run, max_steps=steps, title="pretrain tiny", kind="pretrain")
    if trainer.is_global_zero:
        save_tiny(model, export, **identity_of(config, data=config.data.shards))
        run.finish({"pretrain": time.perf_counter() - begin})
    return export
