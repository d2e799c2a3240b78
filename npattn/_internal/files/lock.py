"""Let one process at a time train in a folder.

The operating system locks an open file and unlocks it when the process ends, in any way. So a file that a crash leaves
behind locks nothing. On a file system without locks (some network folders), the file names the process that holds it:
it is no obstacle if that process was of this computer and has ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = "training.lock"

#: What a folder says that cannot be written. Nothing can be trained in it, so it needs no lock.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)

#: What a file says that another process holds.
HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class FolderLock:
    """A lock on a folder, held from `acquire` to `release`. One lock can be acquired several times."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._times, self._file = 0, -1

    def acquire(self) -> None:
        """Lock the folder. Raise BlockingIOError, naming the other process, when the folder is locked already."""
        if self._times == 0:
            self._file = _open_and_lock(self.path)
        self._times += 1

    def release(self) -> None:
        """Undo one call of `acquire`. The last one removes the file."""
        self._times -= 1
        if self._times == 0 and self._file >= 0:
            with contextlib.suppress(OSError):                # Windows removes no open file: it is left, unlocked
                self.path.unlink()
            os.close(self._file)


def _open_and_lock(path: Path) -> int:
    """Return the descriptor of the locked file; −1 if the folder cannot be written."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno in READ_ONLY and not path.exists():
                return -1
            raise OSError(error.errno, f"cannot write: {error.strerror}", str(path)) from error
        owner = os.read(file, 1000).decode(errors="replace")
        try:
            is_free = _lock(file, owner)
        except BaseException:
            os.close(file)
            raise
        if is_free and os.fstat(file).st_nlink:               # not removed meanwhile by the process that held it
            with contextlib.suppress(OSError):                # a full disk: then an error cannot name this process
                os.ftruncate(file, 0)
                os.lseek(file, 0, os.SEEK_SET)
                os.write(file, f"{os.getpid()} on {platform.node()}".encode())
            return file
        os.close(file)
        if not is_free:
            other = f"process {owner} (if it has ended, remove {path})" if owner else "another process"
            raise BlockingIOError(f"{path.parent}: expected no other training in this folder, found that of {other}")


def _lock(file: int, owner: str) -> bool:
    """Lock the file and return True; return False when another process holds it. `owner` is the content of the file."""
    try:
        if sys.platform == "win32":
            os.lseek(file, 1 << 20, os.SEEK_SET)              # far from the content, which others may read
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in HELD and not _is_alive(owner)   # otherwise this file system has no locks
    return True


def _is_alive(owner: str) -> bool:
    """Return whether the process that the file names may still run. One of another computer may."""
    process, _, computer = owner.partition(" on ")
    if not process.isdecimal() or computer != platform.node() or sys.platform == "win32":
        return bool(owner)
    try:
        os.kill(int(process), 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
