from __future__ import annotations

import os
import pickle
from functools import partial
from pathlib import Path

from data.open_files import OpenFiles


def _open(folder: Path, number: int) -> int:
    return os.open(folder / str(number), os.O_RDONLY)


def _opened() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_few_files_stay_open_and_a_replaced_one_is_read_as_it_was(tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / str(i)).write_bytes(bytes([i]) * 10)
    before = _opened()
    files = OpenFiles(partial(_open, tmp_path), kept=3)
    for i in (*range(9), *range(9)):
        assert files.read(i, 8, 5) == bytes([i]) * 2
    assert _opened() == before + 3
    (tmp_path / "8").unlink()
    assert files.read(8, 0, 1) == b"\x08"
    again = pickle.loads(pickle.dumps(files))
    assert again.read(2, 0, 1) == b"\x02"
    files.close()
    again.close()
    assert _opened() == before


def test_a_forked_process_opens_its_own(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"ab")
    files = OpenFiles(partial(_open, tmp_path))
    assert files.read(0, 0, 1) == b"a"
    child = os.fork()
    if not child:
        found = files.read(0, 1, 1) == b"b"
        files.close()
        os._exit(0 if found else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert files.read(0, 1, 1) == b"b"
    files.close()
