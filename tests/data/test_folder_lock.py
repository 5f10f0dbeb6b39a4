"""One command at a time writes a folder."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from data.cache_folder import locked
from data.folder_lock import FILE, lock_folder, locked_folder
from data.make import make_from_sample
from tests.data.holder import holder


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_second_learns_who_holds_a_folder_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        with pytest.raises(ValueError, match=rf"in use by process {other.pid} on {socket.gethostname()}, since 20"):
            lock_folder(tmp_path)
        other.send_signal(signal.SIGKILL)
        other.wait()
        with locked_folder(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_process_may_lock_its_folder_again(tmp_path: Path) -> None:
    with locked_folder(tmp_path) as first:
        with locked_folder(tmp_path) as second:
            assert first is second
        assert (tmp_path / FILE).is_file(), "the first one holds it still"
    assert not (tmp_path / FILE).exists()


def test_a_lock_that_nothing_refers_to_is_released(tmp_path: Path) -> None:
    lock_folder(tmp_path)
    gc.collect()
    assert not (tmp_path / FILE).exists()


def test_folders_that_were_made_for_a_lock_and_are_empty_go_with_it(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not list(tmp_path.iterdir())


def test_a_forked_child_neither_holds_nor_releases(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    ready, end = os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        os.read(ready, 1)
        os._exit(0)
    os.close(ready)
    assert (tmp_path / FILE).is_file()
    lock.release()
    with locked_folder(tmp_path):  # while the child lives
        pass
    os.close(end)
    os.waitpid(child, 0)


def test_a_child_that_is_given_the_handle_holds_on(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock.handle,))
    with cat as child, (tmp_path / FILE).open("rb") as file:
        lock._release.detach()
        os.close(lock.handle)  # as when this process is killed
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.kill()
        child.wait()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("host", "pid_of", "free"),
    [("here", os.getppid, False), ("here", dead, True), ("elsewhere", lambda: 1, True)],
    ids=["living", "dead", "elsewhere"],
)
def test_without_locks_the_file_says_who_is_at_work(
    host: str,
    pid_of: Callable[[], int],
    free: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    pid = pid_of()
    said = {"pid": pid, "host": socket.gethostname() if host == "here" else host, "since": 0}
    (tmp_path / FILE).write_text(json.dumps(said), encoding="utf-8")
    if free:
        lock_folder(tmp_path).release()
        assert ("locks do not work there" in caplog.text) is (host != "here")
    else:
        with pytest.raises(ValueError, match=f"in use by process {pid}"):
            lock_folder(tmp_path)


def test_without_locks_a_cache_works_and_never_takes_a_download_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path / "a.lock") as mine:
        assert mine
    with locked(tmp_path / "a.lock", wait=False) as stale:
        assert not stale


@pytest.mark.parametrize("name", ["x" * 300, "file/inside", "dangling"])
def test_a_folder_that_cannot_be_is_named_in_a_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises(ValueError, match=r"cannot write to '.*'; name another|cannot write to '.*: .*; name another"):
        lock_folder(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "dangling"}


def test_shards_that_another_process_makes_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with holder(out, "beside=True") as other:
        with pytest.raises(ValueError, match=f"in use by process {other.pid}"):
            make_from_sample("digits", out)
        assert not out.exists()
