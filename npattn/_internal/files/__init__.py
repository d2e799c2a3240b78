"""Files that are whole or refused.

`whole` replaces a file wholly or not at all, `npz` reads and writes archives of arrays, `checkpoint` adds metadata and a
checksum, `state_files` exchanges arrays with other programs. What a run's folder holds is in `npattn.runs`.
"""

from npattn._internal.files.checkpoint import load_arrays, save_arrays
from npattn._internal.files.npz import CheckpointError
from npattn._internal.files.state_files import load_state, save_state
from npattn._internal.files.whole import replacing, write_text

__all__ = [
    "CheckpointError",
    "load_arrays",
    "load_state",
    "replacing",
    "save_arrays",
    "save_state",
    "write_text",
]
