"""Files that are complete or refused.

- `whole` replaces a file completely or not at all.
- `lock` lets one process at a time train in a folder.
- `npz` reads and writes archives of arrays.
- `checkpoint` adds metadata and a checksum to an archive.
- `state_files` exchanges arrays with other programs.

The files of a training run are described in `npattn.runs`.
"""

from npattn._internal.files.checkpoint import load_arrays, save_arrays
from npattn._internal.files.lock import FolderLock
from npattn._internal.files.npz import CheckpointError
from npattn._internal.files.state_files import load_state, save_state
from npattn._internal.files.whole import replacing, write_text

__all__ = [
    "CheckpointError",
    "FolderLock",
    "load_arrays",
    "load_state",
    "replacing",
    "save_arrays",
    "save_state",
    "write_text",
]
