"""Shards of different sizes, read by several workers of several processes."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

from PIL import Image

from data.sample import digits
from data.shards import write_shards
from launch.selftest.check import Check, judged, stopwatch
from launch.selftest.multiset import epoch_faults, share_faults, stream
from launch.selftest.recipe import Disturbed
from launch.selftest.stage import GENTLE, Stage, ended

SIZES = (1, 2, 3, 5, 8, 13, 29)
_BATCH, _EPOCHS, _WORKERS = 8, 3, 3
_PATIENCE = 600.0


def uneven(stage: Stage) -> list[Check]:
    """Seven uneven shards on two processes with three workers each, in both orders of the data."""
    shards = str(write_uneven(stage.out / "uneven") / f"{{0..{len(SIZES) - 1}}}.tar")
    return [_read(stage, shards, order) for order in (("shards",) if stage.quick else ("shards", "samples"))]


def _read(stage: Stage, shards: str, order: str) -> Check:
    name, run = f"uneven-{order}", stage.out / f"uneven-{order}"
    said = ("data.split=", "data.batch_size=", "data.workers=")
    words = [word for word in GENTLE if not word.startswith(said)]
    words += [f"data.shards={shards}", f"data.batch_size={_BATCH}", f"data.workers={_WORKERS}", f"data.order={order}"]
    steps = -(-_EPOCHS * sum(SIZES) // _BATCH)
    training = Disturbed("finetune", ("fare_tiny_eps4", *words, "data.window=2", f"optimizer.max_steps={steps}"))
    with stopwatch() as taken:
        faults = ended(stage.start(name, 2, training=training), _PATIENCE)
    lost, whole = epoch_faults(run, digits("test", sum(SIZES)).keys)
    faults += [*share_faults(run), *lost]
    if len({step for step, _ in stream(run)}) != steps or whole != _EPOCHS:
        faults.append(f"{len({step for step, _ in stream(run)})} of {steps} steps, {whole} of {_EPOCHS} epochs")
    told = f"{_EPOCHS} epochs of {sum(SIZES)} samples, each once; {steps} equal steps on both processes"
    return judged(f"7 uneven shards, 2 x {_WORKERS} readers, order={order}", faults, told, taken[0])


def write_uneven(folder: Path) -> Path:
    """A folder of tars with 1 to 29 embedded images each."""
    source = digits("test", sum(SIZES))
    for number, (first, end) in enumerate(itertools.pairwise(itertools.accumulate(SIZES, initial=0))):
        samples = []
        for i in range(first, end):
            file = io.BytesIO()
            Image.fromarray(source.pixels[i]).save(file, "PNG")
            samples.append({"__key__": source.keys[i], "png": file.getvalue(), "cls": str(source.labels[i])})
        (tar,) = write_shards(folder / f"part-{number}", samples)
        tar.rename(folder / f"{number}.tar")
    return folder
