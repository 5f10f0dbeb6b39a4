"""How fast pictures come out of shards: read by index, as webdataset streams them, and the bare bytes."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.catalog import open_images
from data.images import training_loader
from data.plan import PositionBatches
from data.reading import Reading
from data.shards import write_shards
from data.source import ImageSource
from data.transforms import decode_image, resize_and_crop
from eval.speed import Record
from launch.bench.race import race

BATCH = 32
WORKERS = (1, 2)
Work = Callable[[], object]


def loader(*, quick: bool, device: torch.device, rounds: int) -> Record:
    """Pictures a second of the indexed reader beside a webdataset pipeline that decodes alike, and start-up.

    Args:
        quick: few small pictures.
        device: not used; pictures are decoded on the CPU.
        rounds: repetitions.
    """
    images, side, size = (256, 96, 64) if quick else (2048, 400, 224)
    record = Record(
        "loader",
        f"{images} JPEGs of {side} x {side} in eight shards, decoded on the CPU and cropped to {size}: read by index "
        "in random order, against webdataset in the order of the tars; quickest rounds, for the disk is shared",
    )
    with tempfile.TemporaryDirectory() as folder:
        where = _shards(Path(folder) / "shards", images, side)
        _throughput(record, where, images, size, rounds)
        _start(record, where, images, size, rounds)
    return record


def _throughput(record: Record, where: str, images: int, size: int, rounds: int) -> None:
    source = open_images(where, "train", size)
    by_shards = open_images(where, "train", size, reading=Reading(order="shards", window=4))
    contents = [sample["jpg"] for sample in _samples(where)]
    batches = images // BATCH
    cases: dict[str, Work] = {
        "indexed": lambda: _drain(_indexed(source, 0, batches)),
        "indexed_by_shards": lambda: _drain(_indexed(by_shards, 0, batches)),
        "indexed_in_order": lambda: _drain(_indexed(source, 0, batches, shuffle=False)),
        "webdataset": lambda: _drain(_webdataset(where, size)),
        **{f"indexed_{n}_workers": partial(_through_workers, source, n, batches) for n in WORKERS},
        **{f"webdataset_{n}_workers": partial(_stream_through_workers, where, size, n) for n in WORKERS},
        "bytes": lambda: _bytes(where),
        "decode": lambda: _decode(contents, size),  # from memory: what no reader can save
    }
    timings = race(cases, rounds=rounds, title="loader")
    record.timings |= timings
    for name in ("indexed", "indexed_by_shards", "indexed_in_order"):
        record.ratios[f"webdataset_over_{name}"] = timings["webdataset"].low / timings[name].low
        record.goals[f"webdataset_over_{name}"] = "at least 1: not slower"
    for n in WORKERS:
        name = f"webdataset_over_indexed_{n}_workers"
        record.ratios[name] = timings[f"webdataset_{n}_workers"].low / timings[f"indexed_{n}_workers"].low
        record.goals[name] = "at least 1: not slower"
    record.ratios["indexed_over_decode"] = timings["indexed"].low / timings["decode"].low
    record.goals["indexed_over_decode"] = "near 1: reading costs little beside decoding"
    record.ratios["indexed_over_bytes"] = timings["indexed"].low / timings["bytes"].low
    for name in ("indexed", "webdataset", "indexed_2_workers", "webdataset_2_workers", "decode", "bytes"):
        record.rates[f"{name}_images"] = images / timings[name].low


def _through_workers(source: ImageSource, workers: int, batches: int) -> int:
    return _drain(_indexed(source, workers, batches))


def _stream_through_workers(where: str, size: int, workers: int) -> int:
    return _drain(_webdataset(where, size, workers=workers))


def _start(record: Record, where: str, images: int, size: int, rounds: int) -> None:
    """From nothing to the first batch at nine tenths of an epoch."""
    at = images * 9 // 10

    def indexed() -> object:
        return next(_indexed(open_images(where, "train", size), 0, 1, start=at))

    def streamed() -> object:
        return list(islice(_samples(where), at, at + BATCH))  # passed over without decoding

    timings = race({"start_indexed": indexed, "start_webdataset": streamed}, rounds=rounds, title="start")
    record.timings |= timings
    record.ratios["start_webdataset_over_indexed"] = timings["start_webdataset"].low / timings["start_indexed"].low
    record.goals["start_webdataset_over_indexed"] = "grows with the position"


def _indexed(
    source: ImageSource, workers: int, limit: int, *, start: int = 0, shuffle: bool = True
) -> Iterator[torch.Tensor]:
    order = PositionBatches(
        n=len(source),
        batch_size=BATCH,
        seed=0,
        start_position=start,
        shuffle=source.shuffle if shuffle else False,
        limit=limit,
    )
    return (batch.x for batch in training_loader(source, order, workers, seed=0))


def _samples(where: str) -> Any:
    import webdataset

    return webdataset.WebDataset(where, shardshuffle=False, empty_check=False)  # pyright: ignore[reportAttributeAccessIssue]


class _Decoded:
    """What a pipeline does with a sample's bytes; a class, so that it travels to workers."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, sample: dict[str, Any]) -> tuple[torch.Tensor, int, str]:
        x = resize_and_crop(decode_image(sample["jpg"]), self.size)
        return x, int(sample["cls"]), sample["__key__"]


def _stacked(samples: list[tuple[torch.Tensor, int, str]]) -> torch.Tensor:
    return torch.stack([x for x, _, _ in samples])


def _webdataset(where: str, size: int, *, workers: int = 0) -> Iterator[torch.Tensor]:
    pipeline = _samples(where).map(_Decoded(size)).batched(BATCH, collation_fn=_stacked)
    return iter(DataLoader(pipeline, batch_size=None, num_workers=workers))


def _bytes(where: str) -> int:
    return sum(len(path.read_bytes()) for path in Path(where).parent.glob("*.tar"))


def _decode(contents: list[bytes], size: int) -> None:
    for content in contents:
        resize_and_crop(decode_image(content), size)


def _drain(batches: Iterator[torch.Tensor]) -> int:
    return sum(len(x) for x in batches)


def _shards(folder: Path, images: int, side: int) -> str:
    """Smooth pictures, about as large as photographs of that size."""
    generator = np.random.default_rng(0)
    contents = []
    for _ in range(16):
        coarse = generator.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    samples = (
        {"__key__": f"s{i:06d}", "jpg": contents[i % 16], "cls": str(i % 10), "txt": "a picture"} for i in range(images)
    )
    write_shards(folder, samples, per_shard=images // 8)
    return f"{folder}/{{0..7}}.tar"
