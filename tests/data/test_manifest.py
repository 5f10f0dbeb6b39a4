from __future__ import annotations

from pathlib import Path

import pytest

from data.manifest import (
    check_file,
    describe,
    new_folder,
    read_manifest,
    write_manifest,
    write_text,
)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep/target"
    with pytest.raises(KeyboardInterrupt), new_folder(target) as temporary:
        (temporary / "a").touch()
        raise KeyboardInterrupt
    assert not (tmp_path / "deep").exists()
    with new_folder(target) as temporary:
        (temporary / "a").touch()
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"]
    assert target.stat().st_mode & 0o777 == 0o755
    assert list((tmp_path / "deep").iterdir()) == [target]


def test_an_empty_folder_is_filled_and_a_full_one_or_a_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with new_folder(target) as temporary:
        (temporary / "a").touch()
    for taken in (target, target / "a"):
        with pytest.raises(ValueError, match="exists and is not empty"), new_folder(taken):
            raise AssertionError("the block must not run")


def test_a_text_file_is_replaced_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "zwölf")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "zwölf"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_manifest_is_read_back_and_only_in_its_own_format(tmp_path: Path) -> None:
    assert read_manifest(tmp_path, "kind/1") is None
    (tmp_path / "0.bin").write_bytes(b"abc")
    record = describe(tmp_path / "0.bin", 7)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert record == {"name": "0.bin", "count": 7, "bytes": 3, "sha256": digest}
    write_manifest(tmp_path, "kind/1", [record, record], extra="x")
    content = read_manifest(tmp_path, "kind/1")
    assert content == {"format": "kind/1", "count": 14, "extra": "x", "shards": [record, record]}
    assert read_manifest(tmp_path, "kind/2") is None


@pytest.mark.parametrize("content", ["{", '{"format": "k"}', '{"format": "k", "shards": [{}]}'])
def test_a_broken_manifest_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(ValueError, match="index.json' (is not JSON|lacks the record)"):
        read_manifest(tmp_path, "k")


def test_size_is_always_compared_and_content_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "0.bin"
    path.write_bytes(b"abc")
    record = describe(path, 1)
    check_file(path, record, checksum=True)
    path.write_bytes(b"abd")
    check_file(path, record)
    with pytest.raises(ValueError, match="does not match its sha256"):
        check_file(path, record, checksum=True)
    path.write_bytes(b"ab")
    with pytest.raises(ValueError, match="has 2 bytes but index.json says 3"):
        check_file(path, record)


def test_a_link_to_an_empty_folder_remains_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with new_folder(tmp_path / "out") as temporary:
        (temporary / "a").touch()
    assert (tmp_path / "out").is_symlink() and (tmp_path / "disk" / "a").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "out"]
