"""One process at a time trains in a folder; a lock that a crash leaves behind is no obstacle."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from npattn._internal.files import FolderLock
from npattn._internal.files import lock as module
from npattn._internal.files.lock import NAME

HOLD = """if True:
    import sys, pathlib
    from npattn._internal.files import FolderLock
    FolderLock(pathlib.Path(sys.argv[1])).acquire()
    print("held", flush=True)
    sys.stdin.read()
"""


def refusal(folder: Path) -> str:
    with pytest.raises(BlockingIOError) as caught:
        FolderLock(folder).acquire()
    return str(caught.value)


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_another_process_is_refused_until_the_first_ends(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        assert refusal(tmp_path).startswith(
            f"{tmp_path}: expected no other training in this folder, found that of process {process.pid} on "
        )
        if how == "is killed":
            process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        process.stdin.close()
        process.wait()
    assert (tmp_path / NAME).exists()                         # neither released the lock
    lock = FolderLock(tmp_path)
    lock.acquire()
    assert (tmp_path / NAME).read_text() == f"{os.getpid()} on {platform.node()}"
    lock.release()


def test_a_lock_is_held_until_its_last_release(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.acquire()
    lock.release()
    owner = f"{os.getpid()} on {platform.node()}"
    assert refusal(tmp_path).endswith(f"that of process {owner} (if it has ended, remove {tmp_path / NAME})")
    lock.release()
    assert not list(tmp_path.iterdir())
    lock.acquire()
    lock.release()


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
class TestFlock:
    def test_the_file_is_removed_before_it_is_locked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The process that held the lock removes the file; a lock on it would keep nobody out."""
        import fcntl

        flock, files = fcntl.flock, []

        def late(file: int, operation: int) -> None:
            if not files:
                (tmp_path / NAME).unlink()
            files.append(os.fstat(file).st_ino)
            flock(file, operation)

        monkeypatch.setattr(fcntl, "flock", late)
        lock = FolderLock(tmp_path)
        lock.acquire()
        assert len(files) == 2 and (tmp_path / NAME).stat().st_ino == files[1]
        lock.release()

    @pytest.mark.parametrize(
        ("owner", "is_free"),
        [
            ("", True), (f"{2**22 + 5} on {platform.node()}", True), (f"{os.getpid()} on {platform.node()}", False),
            ("1 on another-computer", False), ("something else", False),
        ],
    )  # fmt: skip
    def test_a_file_system_without_locks(
        self, tmp_path: Path, owner: str, is_free: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file names the process that holds it."""
        import fcntl

        def unsupported(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", unsupported)
        (tmp_path / NAME).write_text(owner)
        if not is_free:
            assert f"found that of process {owner} (if it has ended, remove {tmp_path / NAME})" in refusal(tmp_path)
            return
        lock = FolderLock(tmp_path)
        lock.acquire()
        assert f"process {os.getpid()} on" in refusal(tmp_path)
        lock.release()
        assert not list(tmp_path.iterdir())

    def test_a_process_of_another_user_is_alive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import fcntl

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, "no")

        monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOTSUP, "no")))
        monkeypatch.setattr(os, "kill", refuse)
        (tmp_path / NAME).write_text(f"77 on {platform.node()}")
        assert "process 77 on" in refusal(tmp_path)


def test_a_folder_that_cannot_be_written_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run in it can be resumed: it writes nothing. Other errors are reported."""
    lock = FolderLock(tmp_path)
    for number, raises in ((errno.EROFS, False), (errno.EACCES, False), (errno.ENOSPC, True)):

        def fail(*_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", fail)
        if raises:
            with pytest.raises(OSError, match=r"cannot write: No space left on device: .*training\.lock"):
                lock.acquire()
        else:
            lock.acquire()
            lock.release()


class TestWindows:
    """msvcrt locks a range of bytes for all other handles, and Windows removes no open file. Both are simulated."""

    @pytest.fixture
    def locked(self, monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
        ranges: set[tuple[int, int]] = set()                  # of the files by their numbers, since the last close

        def locking(file: int, mode: int, n: int) -> None:
            place = os.fstat(file).st_ino, os.lseek(file, 0, os.SEEK_CUR)
            assert (mode, n) == (2, 1) and place[1] > 1000    # nobody could read the bytes of a range that is locked
            if place in ranges:
                raise PermissionError(errno.EACCES, "Permission denied")
            ranges.add(place)

        def close(file: int) -> None:
            if opened.get(file) == "w":
                ranges.clear()
            real_close(file)

        def unlink(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "the file is open")

        real_close, real_truncate, opened = os.close, os.ftruncate, dict[int, str]()

        def truncate(file: int, n: int) -> None:
            opened[file] = "w"                                # only the process that has the lock writes
            real_truncate(file, n)

        monkeypatch.setattr(module, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2), raising=False)
        monkeypatch.setattr(module, "sys", SimpleNamespace(platform="win32"))
        monkeypatch.setattr(os, "close", close)
        monkeypatch.setattr(os, "ftruncate", truncate)
        monkeypatch.setattr(Path, "unlink", unlink)
        return ranges

    def test_one_process_at_a_time(self, tmp_path: Path, locked: set[tuple[int, int]]) -> None:
        lock = FolderLock(tmp_path)
        lock.acquire()
        owner = f"process {os.getpid()} on {platform.node()}"
        assert refusal(tmp_path).endswith(f"found that of {owner} (if it has ended, remove {tmp_path / NAME})")
        lock.release()
        assert not locked and (tmp_path / NAME).exists()
        again = FolderLock(tmp_path)
        again.acquire()
        assert f"that of {owner}" in refusal(tmp_path)
        again.release()

    def test_a_file_system_without_locks(
        self, tmp_path: Path, locked: set[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Windows cannot tell whether a process is alive, so the file that names one is an obstacle."""

        def locking(*_: object) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(module.msvcrt, "locking", locking)  # type: ignore[attr-defined]
        (tmp_path / NAME).write_text(f"{2**22 + 5} on {platform.node()}")
        assert f"if it has ended, remove {tmp_path / NAME}" in refusal(tmp_path)
        (tmp_path / NAME).write_text("")
        FolderLock(tmp_path).acquire()
