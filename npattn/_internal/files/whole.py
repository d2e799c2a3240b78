"""Write a file completely or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file in the folder of `path`, and move it to `path` after the block.

    The content is on the disk (fsync) before the file gets its name, and `os.replace` is one step for the operating
    system. So `path` is the old file or the new one, whenever the process or the machine stops.

    Each call takes a new temporary name: two processes never write to one file. A killed process leaves its temporary
    file in the folder; the next call removes it.

    Raises OSError when the file cannot be written, for example on a full disk or in a read-only folder. The old file is
    still there.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with contextlib.suppress(OSError):  # the folder may forbid listing and still allow writing
            for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 16}.tmp"):
                leftover.unlink(missing_ok=True)
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, f"cannot write: {error.strerror}", str(path)) from error
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


def _sync_folder(folder: Path) -> None:
    """Write the new name to the disk too, against a power cut. Windows cannot open a folder."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
