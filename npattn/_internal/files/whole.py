"""Write a file wholly or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` and, when all went well, move it there.

    The content is on the disk (fsync) before it gets its name, and `os.replace` is one step for the operating
    system. Whenever the process or the machine stops, `path` is the old file or the new one.

    The temporary name is new each time, so that two writers cannot write into one file. A killed process
    leaves its own behind; the next one removes it, or a folder would fill up with them.

    OSError: the folder is missing or read-only, the disk is full …; what was at `path` is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with contextlib.suppress(OSError):  # in a folder that may not be listed, say; writing may do all the same
            _remove_leftovers(path)
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, f"cannot write: {error.strerror}", str(path)) from error
    finally:  # after a KeyboardInterrupt too
        with contextlib.suppress(OSError):  # gone if all went well; else the first error is the one to report
            temporary.unlink()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` in UTF-8 to `path`, wholly or not at all. OSError: it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(Path(folder, "log.tsv"), "step\\tloss\\n")
    ...     Path(folder, "log.tsv").read_text()
    'step\\tloss\\n'
    """
    with replacing(Path(path)) as file:
        file.write(text.encode())


def _remove_leftovers(path: Path) -> None:
    for other in path.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.tmp", other.name):
            other.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut as the content does; Windows cannot open a folder."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
