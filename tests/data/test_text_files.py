"""Text files are read as their editors wrote them, or refused in a line that names file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data.benchmarks.ids import read_ids
from data.catalog import locate, read_classes, read_templates
from data.layouts.odd_one_out import open_odd_one_out
from data.layouts.triplet_files import open_triplets
from data.manifest import MANIFEST, read_manifest
from data.shard_lists import shard_count
from data.shards import FORMAT, write_shards
from data.text_files import read_lines, read_text

WRITERS = [(encoding, end) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32") for end in ("\n", "\r\n", "\r")]
Picture = Callable[..., bytes]


@pytest.mark.parametrize(("encoding", "end"), WRITERS)
def test_every_text_file_reads_alike_whoever_wrote_it(
    encoding: str, end: str, tmp_path: Path, picture: Picture
) -> None:
    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.replace("\n", end).encode(encoding))
        return path

    samples = [{"__key__": f"s{i}", "png": picture(i), "cls": str(i % 2)} for i in range(2)]
    write_shards(tmp_path / "set" / "test", samples, per_shard=1)
    write(tmp_path / "set" / "classnames.txt", "\nzèro \n\n one\n\n")
    write(tmp_path / "set" / "zeroshot_classification_templates.txt", "a {c}.\n\nthe {c}\n")
    write(tmp_path / "set" / "test" / "nshards.txt", "2 \n\n")
    manifest = tmp_path / "set" / "test" / MANIFEST
    write(manifest, manifest.read_text())
    found = locate(str(tmp_path / "set"), "test")
    assert (found.classes, found.templates, len(found.urls)) == (["zèro", "one"], ["a {}.", "the {}"], 2)
    assert read_manifest(manifest.parent, FORMAT) is not None
    listed = write(tmp_path / "set" / "test" / "some.txt", "# mine\n1.tar\n\n0.tar \n")
    assert [Path(url).name for url in locate(str(listed), "test").urls] == ["1.tar", "0.tar"]
    assert read_ids(write(tmp_path / "ids.txt", "s1\n\ns0\n")) == ["s1", "s0"]

    for name in ("a", "b", "c"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "0.png").write_bytes(picture(0))
    write(tmp_path / "unique_id.txt", "a\nb\nc\n\n")
    write(tmp_path / "test.txt", "0 1 2\n\n2 1 0\n")
    assert len(open_odd_one_out(str(tmp_path), "test").keys) == 2
    write(tmp_path / "triplets.csv", "reference,left,right,label\nimages/a/0.png,images/b/0.png,images/c/0.png,left\n")
    assert list(open_triplets(str(tmp_path), "test").labels) == [0]
    write(tmp_path / "triplets.csv", "reference;left;right;label\nimages/a/0.png;images/b/0.png;images/c/0.png;right\n")
    assert list(open_triplets(str(tmp_path), "test").labels) == [1]


def test_marks_within_a_text_are_dropped_and_other_characters_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("\ufeffone\n\ufefftwo # 2\nth\u2028ree\n", encoding="utf-8")
    assert read_text(path) == "one\ntwo # 2\nth\u2028ree\n"
    assert read_lines(path) == [(1, "one"), (2, "two # 2"), (3, "th\u2028ree")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("zero\ncrêpe\n".encode("latin-1"), r"^line 2 of '.*' is not UTF-8 text \(byte 0xea\); save it as UTF-8$"),
        ("zero\none\n".encode("utf-16-le"), "^line 1 of '.*' holds a zero byte"),
        (b"\xff\xfez\0\n\0o", "^line 2 of '.*' is not UTF-16 text"),
    ],
    ids=["latin-1", "utf-16 without a mark", "half a character"],
)
@pytest.mark.parametrize("read", [read_classes, read_templates, read_ids, shard_count])
def test_what_is_no_text_is_refused_with_its_file_and_line(
    read: Callable[[Path], object], content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=told) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_class_names_are_literal_composed_and_have_no_comments(tmp_path: Path) -> None:
    path = tmp_path / "classnames.txt"
    path.write_text("#1 dad\n{}\ncafe\u0301\n")
    assert read_classes(path) == ["#1 dad", "{}", "caf\u00e9"]
    path.write_text("# my classes\ncat\ndog\n")
    with pytest.raises(ValueError, match="^line 1 of '.*' looks like a comment; every line is a class, remove it$"):
        read_classes(path)
    path.write_text("cafe\u0301\ncaf\u00e9\n")
    with pytest.raises(ValueError, match="duplicates"):
        read_classes(path)
    path.write_text("\n \n")
    with pytest.raises(ValueError, match="names no class"):
        read_classes(path)
    with pytest.raises(ValueError, match="holds no template"):
        read_templates(path)


@pytest.mark.parametrize("said", ["", "two", "-1", "0", "1\n2", "٢", "1.0"])
def test_a_number_of_shards_that_is_none_is_refused(said: str, tmp_path: Path) -> None:
    path = tmp_path / "nshards.txt"
    path.write_text(said, encoding="utf-8")
    with pytest.raises(ValueError, match="where the number of shards belongs"):
        shard_count(path)
