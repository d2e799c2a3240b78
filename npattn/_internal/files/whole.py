"""Write a file completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

#: What a file system says that cannot write a folder to the disk (CIFS, folders shared with a virtual machine), or a
#: folder that may be written but not read. The file itself is complete then.
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)

#: Seconds between attempts to move a file. On Windows a virus scanner or an indexer may hold it for a moment.
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8) if os.name == "nt" else ()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file in the folder of `path`, and move it to `path` after the block.

    The content is on the disk (fsync) before the file gets its name, and `os.replace` is one step for the operating
    system. So `path` is the old file or the new one, whenever the process or the machine stops.

    Each call takes a new temporary name: two processes never write to one file. A killed process leaves its temporary
    file in the folder; the next call removes it.

    A symbolic link stays, and its target is replaced. The new file has the permissions of the old one, and its owner
    and group where the system allows it. A hard link to the old file keeps the old content.

    Raises OSError when the file cannot be written, for example on a full disk or in a read-only folder. The old file is
    still there.
    """
    named, path = path, Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with contextlib.suppress(OSError):  # the folder may forbid listing and still allow writing
            for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 16}.tmp"):
                leftover.unlink(missing_ok=True)
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            _keep_permissions(path, file.fileno())
            os.fsync(file.fileno())
        _move(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, f"cannot write: {error.strerror}", str(named)) from error
    finally:  # after a KeyboardInterrupt too
        with contextlib.suppress(OSError):  # already moved after success; the first error is reported otherwise
            temporary.unlink()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text in UTF-8 to a file. A file that is there is replaced completely or not at all.

    - path: the file.
    - text: its new content.

    Raises OSError when the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(Path(folder, "log.tsv"), "step\\tloss\\n")
    ...     Path(folder, "log.tsv").read_text()
    'step\\tloss\\n'
    """
    with replacing(Path(path)) as file:
        file.write(text.encode())


def _move(old: Path, new: Path) -> None:
    for pause in PAUSES:
        try:
            return os.replace(old, new)
        except PermissionError:
            time.sleep(pause)
    return os.replace(old, new)


def _keep_permissions(old: Path, descriptor: int) -> None:
    """Give an open file the owner, group and permissions of an old one, as far as this process may."""
    if os.name != "nt" and old.exists():
        status = old.stat()
        with contextlib.suppress(OSError):                    # only root may give files away
            os.fchown(descriptor, status.st_uid, status.st_gid)
        with contextlib.suppress(OSError):                    # some file systems have no permissions
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _sync_folder(folder: Path) -> None:
    """Write the new name to the disk too, against a power cut. Windows cannot open a folder."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
