"""Nothing of a stranger's file is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import pickle
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import packaging.version
import pytest
import torch
from lightning_fabric.utilities.data import AttributeDict
from omegaconf import OmegaConf

from modules.inert_pickle import Inert, read_inert
from modules.pickle_calls import would_call
from modules.prior.convert_source import release_of
from tests.modules.evil import ATTACKS, Calls, archive_of
from tests.modules.prior.goldens import FOLDER


@pytest.mark.parametrize(("attack", "told"), ATTACKS)
def test_a_file_that_names_code_is_refused_by_that_name_and_runs_nothing(
    attack: Callable[[Path], Any], told: str, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    evil = pickle.dumps(attack(mark), 2)
    file = archive_of(tmp_path / "evil.pth", evil)
    with pytest.raises(ValueError, match=rf"evil\.pth was refused: it names .*{told}, which could run code"):
        read_inert(file)
    assert not mark.exists()


def test_the_attacks_of_these_tests_would_work_on_an_ordinary_reader(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Calls(os.system, f"touch {mark}"), 2))
    assert mark.exists()


@pytest.mark.parametrize("name", ["OrderedDict.fromkeys", "_rebuild_tensor_v2.__globals__"])
def test_no_path_leads_on_from_an_allowed_name(name: str, tmp_path: Path) -> None:
    module = "collections" if name.startswith("Ordered") else "torch._utils"
    text = f"\x80\x04\x8c{chr(len(module))}{module}\x8c{chr(len(name))}{name}\x93.".encode("latin-1")
    with pytest.raises(ValueError, match=f"it names {module}.{name}"):
        read_inert(archive_of(tmp_path / "evil.pth", text))


def test_a_refused_name_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    text = b"\x80\x04\x8c\x02os\x8c\x07\x1b[2J\na.\x93."
    with pytest.raises(ValueError, match="it names") as refused:
        read_inert(archive_of(tmp_path / "evil.pth", text))
    assert str(refused.value).isprintable()


def test_a_stand_in_cannot_be_called_and_imports_nothing(tmp_path: Path) -> None:
    called = b"\x80\x02cpytorch_warmup.base\nLinearWarmup\n)R)R."  # made, and then called
    with pytest.raises(ValueError, match="is damaged: TypeError"):
        read_inert(archive_of(tmp_path / "evil.pth", called))
    unknown = b"\x80\x02cpytorch_warmup.nowhere\nNothing\n(K\x01tR."
    read = read_inert(archive_of(tmp_path / "kept.pth", unknown))
    assert isinstance(read, Inert) and read.arguments == (1,) and read.name == "pytorch_warmup.nowhere.Nothing"


def test_attributes_that_a_file_sets_on_a_table_are_ignored(tmp_path: Path) -> None:
    table = b"\x80\x02ccollections\nOrderedDict\n)R}U\x05itemsK\x01sb."
    read = read_inert(archive_of(tmp_path / "t.pth", table))
    assert read == {} and list(read.items()) == []


def test_tensors_of_all_kinds_come_back_as_they_were_saved(tmp_path: Path) -> None:
    base = torch.randn(4, 3)
    content = {
        "plain": base,
        "view": base[1:, ::2],
        "half": base.half(),
        "whole": torch.arange(5),
        "flag": torch.tensor([True]),
        "parameter": torch.nn.Parameter(base.clone()),
        "type": torch.float16,
        "size": base.shape,
        "more": collections.OrderedDict(a=1),
    }
    torch.save(content, tmp_path / "a.pth")
    read = read_inert(tmp_path / "a.pth")
    for name in ("plain", "view", "half", "whole", "flag", "parameter"):
        assert torch.equal(read[name], content[name]) and read[name].dtype == content[name].dtype
    assert (read["type"], read["size"], read["more"]) == (torch.float16, base.shape, {"a": 1})


def test_settings_that_trainers_keep_beside_their_weights_do_not_bar_the_way_to_them(tmp_path: Path) -> None:
    settings = {"lr": 1e-4, "betas": [0.9, 0.999], "model": {"name": "ViT-B-32", "path": Path("a")}, "tag": None}
    beside: dict[str, Any] = {
        "omegaconf": OmegaConf.create(settings),  # Lightning's hyper_parameters
        "argparse": argparse.Namespace(**settings),
        "namespace": types.SimpleNamespace(**settings),
        "hyper_parameters": AttributeDict(settings),
        "factory": collections.defaultdict(list, a=[1]),
        "counts": collections.Counter("ab"),
        "numpy": [np.float64(0.1), np.int64(3), np.zeros(2), np.random.default_rng(0).random(1)],
        "python": [slice(1), range(3), {1}, datetime.datetime(2026, 1, 1), datetime.timedelta(1)],
        "torch": [torch.device("cpu"), torch.__version__, torch.float16],
    }
    for name, value in beside.items():
        torch.save({"state_dict": {"w": torch.ones(2)}, name: value}, tmp_path / "a.pt")
        read = read_inert(tmp_path / "a.pt")
        assert torch.equal(read["state_dict"]["w"], torch.ones(2)), name
        assert would_call(tmp_path / "a.pt") == [], name


@pytest.mark.parametrize("name", ["trainer-0.6.0.pth", "trainer-1.15.6.pth"])
def test_real_trainers_files_are_read(name: str) -> None:
    read = read_inert(FOLDER / name)
    assert {"model", "ema", "optimizer", "version", "step"} <= read.keys()
    assert read["model"]["net.learned_query"].shape == (16,)


def _old(release: tuple[int, ...]) -> bytes:
    """How ``packaging`` before 26 pickled a version: by a named tuple and a key with infinities."""
    parts = b"".join(b"K" + bytes([part]) for part in release)
    inner = b"cpackaging.version\n_Version\n(K\x00(" + parts + b"tNNNNt\x81"
    key = b"cpackaging._structures\nInfinityType\n)\x81"
    return b"\x80\x02cpackaging.version\nVersion\n)\x81}(U\x08_version" + inner + b"U\x04_key" + key + b"ub."


def _slots(release: tuple[int, ...]) -> bytes:
    """How slots without a method of their own are pickled: nothing, and a table."""
    parts = b"".join(b"K" + bytes([part]) for part in release)
    table = b"}(U\x06_epochK\x00U\x08_release(" + parts + b"tu"
    return b"\x80\x02cpackaging.version\nVersion\n)\x81N" + table + b"\x86b."


@pytest.mark.parametrize("release", [(0, 15, 4), (1, 4, 3), (1, 15)])
def test_every_form_of_a_stored_version_gives_its_numbers(release: tuple[int, ...], tmp_path: Path) -> None:
    text = ".".join(map(str, release))
    installed = pickle.dumps(packaging.version.Version(text), 2)
    for i, form in enumerate((_old(release), _slots(release), installed, pickle.dumps(text, 2))):
        assert release_of(read_inert(archive_of(tmp_path / f"{i}.pth", form))) == release
    assert release_of(None) is None
    assert release_of(f"{text}.dev0") == release


@pytest.mark.parametrize("version", ["new", "", 3, Inert()])
def test_a_version_without_numbers_is_refused(version: object) -> None:
    with pytest.raises(ValueError, match=r"cannot be read; say --source-version, such as"):
        release_of(version)


def _damage(path: Path, kind: str) -> Path:
    torch.save({"a": torch.randn(2000)}, path)
    whole = path.read_bytes()
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "text":
        path.write_text("no checkpoint")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "old":
        torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/readme", "x")
    elif kind == "compressed":
        with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in source.namelist():
                archive.writestr(name, source.read(name))
    elif kind == "script":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("archive/constants.pkl", b"\x80\x02N.")
    elif kind == "pickle":
        archive_of(path, b"\x80\x02}q")
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("cut", "is damaged or cut short; fetch it again"),
        ("text", r"is not a file of torch\.save"),
        ("empty", r"is not a file of torch\.save"),
        ("old", r"is not a file of torch\.save \(1\.6 or newer\)"),
        ("zip", "is a zip without tensors"),
        ("compressed", "was compressed after torch.save wrote it"),
        ("script", "is a TorchScript archive, which holds code"),
        ("pickle", "is damaged: "),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(kind: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        read_inert(_damage(tmp_path / "x.pth", kind))
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint at"):
        read_inert(tmp_path / "none.pth")


def test_members_of_enumerations_are_read_as_some_releases_of_python_write_them(tmp_path: Path) -> None:
    known = b"\x80\x02cbuiltins\ngetattr\ncpackaging.version\nVersion\nX\x03\x00\x00\x00ONE\x86R."
    (member,) = read_inert(archive_of(tmp_path / "member.pth", known)).arguments
    assert member == "ONE"
    for owner in (b"}", b"ctorch\nSize\n", b"ccollections\nOrderedDict\n", b"cpackaging.version\nVersion\n)R"):
        asks = b"\x80\x02cbuiltins\ngetattr\n" + owner + b"X\x03\x00\x00\x00pop\x86R."
        with pytest.raises(ValueError, match="it names builtins.getattr, which could run code"):
            read_inert(archive_of(tmp_path / "other.pth", asks))
