from __future__ import annotations

import gzip
import io
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from data.tars import ShardError, members

MakeTar = Callable[..., Path]


def _special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_members_are_found_with_key_extension_and_place(tmp_path: Path, make_tar: MakeTar) -> None:
    path = make_tar(tmp_path / "0.tar", [("a/b.c/s1.seg.PNG", b"12345"), ("s2.cls", b"7")])
    found = list(members(path, Counter()))
    assert [(m.key, m.ext, m.size) for m in found] == [("a/b.c/s1", "seg.png", 5), ("s2", "cls", 1)]
    assert [path.read_bytes()[m.offset :][: m.size] for m in found] == [b"12345", b"7"]


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (_special("s0.jpg", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (_special("s0.jpg", tarfile.LNKTYPE, "s1.jpg"), "link"),
        (_special("s0.jpg", tarfile.CHRTYPE), "not a plain file"),
        (_special("s0.jpg", tarfile.BLKTYPE), "not a plain file"),
        (_special("s0.jpg", tarfile.FIFOTYPE), "not a plain file"),
        (("../s0.jpg", b"x"), "path leaves the folder"),
        (("a/../../s0.jpg", b"x"), "path leaves the folder"),
        (("/s0.jpg", b"x"), "path leaves the folder"),
        (("..\\s0.jpg", b"x"), "path leaves the folder"),
        (("s0.pkl", b"x"), "pickled"),
        (("s0.pyd", b"x"), "pickled"),
        (("s0.meta.PTH", b"x"), "pickled"),
        (("README", b"x"), "no key and extension"),
        (("s0", b"x"), "no key and extension"),
        (("s0.jpg", b"x" * 101), "too large"),
        (("s\udcff.jpg", b"x"), "name is not UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_odd_members_are_refused_and_counted(
    member: tarfile.TarInfo | tuple[str, bytes], reason: str, tmp_path: Path, make_tar: MakeTar
) -> None:
    path = make_tar(tmp_path / "0.tar", [("s1.cls", b"1"), member, ("s2.cls", b"2")])
    rejected: Counter[str] = Counter()
    assert [m.key for m in members(path, rejected, max_member_bytes=100)] == ["s1", "s2"]
    assert rejected == {reason: 1}


def test_names_beyond_ascii_are_fine(tmp_path: Path, make_tar: MakeTar) -> None:
    path = make_tar(tmp_path / "0.tar", [("é/猫 1.jpg", b"x"), ("x" * 150 + ".jpg", b"y")])
    rejected: Counter[str] = Counter()
    assert [m.key for m in members(path, rejected)] == ["é/猫 1", "x" * 150]
    assert not rejected


def test_folders_hidden_files_and_webdatasets_own_notes_are_no_fault(tmp_path: Path, make_tar: MakeTar) -> None:
    path = make_tar(
        tmp_path / "0.tar",
        [
            _special("a", tarfile.DIRTYPE),
            ("__info__", b"{}"),
            *((name, b"x") for name in (".DS_Store", "._s.cls", "a/._s.jpg", "a/Thumbs.db", "__MACOSX/a/._s.jpg")),
            ("s.cls", b"1"),
        ],
    )
    rejected: Counter[str] = Counter()
    assert [m.key for m in members(path, rejected)] == ["s"]
    assert not rejected


def _whole(tmp_path: Path, make_tar: MakeTar) -> bytes:
    path = make_tar(tmp_path / "whole.tar", [(f"s{i}.cls", bytes(700)) for i in range(3)])
    return path.read_bytes()


@pytest.mark.parametrize("length", [*range(0, 4608, 512), *range(100, 4608, 512), 4700])
def test_a_cut_is_found_wherever_it_falls(length: int, tmp_path: Path, make_tar: MakeTar) -> None:
    # Three members of 1536 bytes each end at byte 4608; the end mark follows.
    path = tmp_path / "cut.tar"
    path.write_bytes(_whole(tmp_path, make_tar)[:length])
    with pytest.raises(ShardError, match="cut.tar"):
        list(members(path, Counter()))


def test_losing_only_padding_is_no_fault(tmp_path: Path, make_tar: MakeTar) -> None:
    path = tmp_path / "padded.tar"
    path.write_bytes(_whole(tmp_path, make_tar)[: 4608 + 512])
    assert len(list(members(path, Counter()))) == 3


def test_a_damaged_header_in_the_middle_is_found(tmp_path: Path, make_tar: MakeTar) -> None:
    data = bytearray(_whole(tmp_path, make_tar))
    data[1536:1600] = b"\x13" * 64
    path = tmp_path / "damaged.tar"
    path.write_bytes(data)
    with pytest.raises(ShardError, match="damaged or cut short at byte 1536"):
        list(members(path, Counter()))


def test_a_compressed_bomb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar"
    path.write_bytes(gzip.compress(bytes(10**7)))
    with pytest.raises(ShardError, match="not a readable, uncompressed tar"):
        list(members(path, Counter()))


def test_a_claimed_giant_is_found_by_the_files_size(tmp_path: Path) -> None:
    info = tarfile.TarInfo("s0.jpg")
    info.size = 5 * 2**30
    path = tmp_path / "giant.tar"
    path.write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(ShardError, match="cut short in member 's0.jpg'"):
        list(members(path, Counter()))


def test_no_file_and_web_page_are_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no shard '.*absent.tar'"):
        list(members(tmp_path / "absent.tar", Counter()))
    page = tmp_path / "page.tar"
    page.write_bytes(io.BytesIO(b"<html>" * 300).getvalue())
    with pytest.raises(ShardError, match="'.*page.tar' is not a readable"):
        list(members(page, Counter()))
