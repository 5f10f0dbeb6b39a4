"""JSON of strangers: nested without end, of other bytes or of other kinds, it is told in a line by every reader."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from data import targets
from data.layouts.revisited import open_revisited
from data.manifest import MANIFEST, read_manifest
from eval import card, prior_record, tuning_record
from eval.outcomes import read_header
from eval.pages.runs import read_run
from eval.protocols import record
from eval.results import read_results
from modules.checkpoint import read_state
from modules.encoders.clip import load_clip
from modules.prior import storage
from modules.prior.library_config import read_library_config
from tests.eval.test_report import make_run

DEEP = "[" * 200_000
TEXTS = {
    "nested lists": DEEP.encode(),
    "nested tables": b'{"a":' * 200_000,
    "no text": b"\xff\xfe\x00{",
    "nothing": b"",
    "a long number": b'{"a": ' + b"9" * 100_000 + b"}",
    "a list": b"[1, 2]",
    "a word": b'"\\u001b[2J"',
    "a table of other things": b'{"\\u001b[2Jevil": {"__class__": "os.system"}}',
}


def _header(path: Path, name: str, text: bytes) -> Path:
    save_file({"a": torch.ones(1)}, path, {name: text.decode("latin-1")})
    return path


def _run(folder: Path, name: str, text: bytes) -> Any:
    run = make_run(folder / "run", extras=True)
    (run / name).write_bytes(text)
    return read_run(run)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "answers of a search": ("gnd_x.json", lambda folder: open_revisited(str(folder), 8)),
    "targets": (targets.FILE, targets.read_header),
    "a scorecard": (card.FILE, card.read_card),
    "a search for settings": (tuning_record.FILE, tuning_record.read_tuning),
    "a protocol": (record.FILE, record.read_record),
    "outcomes": ("o.json", lambda folder: read_header(folder / "o.json")),
    "results": ("results.jsonl", lambda folder: read_results(folder / "results.jsonl")),
    "settings of a prior": ("c.json", lambda folder: read_library_config(folder / "c.json")),
    "a hub folder": ("open_clip_config.json", lambda folder: load_clip(f"local-dir:{folder}")),
    "env.json of a run": ("x", lambda folder: _run(folder, "env.json", (folder / "x").read_bytes())),
    "examples of a run": ("x", lambda folder: _run(folder, "examples.json", (folder / "x").read_bytes())),
    "notes of a run": ("x", lambda folder: _run(folder, "notes.json", (folder / "x").read_bytes())),
}
LENIENT = {  # other JSON says nothing, and is no fault
    "a list of shards": (MANIFEST, lambda folder: read_manifest(folder, "x")),
    "a record of a prior": (prior_record.FILE, prior_record.read_record),
    "what weights say": (
        "x",
        lambda folder: read_state(_header(folder / "a.safetensors", "robustclip", (folder / "x").read_bytes())),
    ),
    "what a prior says": (
        "x",
        lambda folder: storage.prior_metadata(
            _header(folder / "a.safetensors", storage._HEADER, (folder / "x").read_bytes())
        ),
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_other_json_is_a_fault_in_one_line(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    for number, (kind, text) in enumerate(TEXTS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(text)
        if (kind, reader) in FINE:
            read(folder)
            continue
        with pytest.raises(ValueError) as caught:
            read(folder)
        assert len(str(caught.value).splitlines()) == 1, kind
        shutil.rmtree(folder)


FINE = {("nothing", "results"), ("a table of other things", "env.json of a run")}


@pytest.mark.parametrize("reader", LENIENT)
def test_json_nested_without_end_ends_no_reader(reader: str, tmp_path: Path) -> None:
    name, read = LENIENT[reader]
    for number, kind in enumerate(("nested lists", "nested tables", "a long number")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(TEXTS[kind])
        with pytest.raises(ValueError) as caught:
            read(folder)
        assert len(str(caught.value).splitlines()) == 1, kind
