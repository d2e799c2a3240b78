"""The long tests: thousands of damaged files, thousands of kills, and full disks. `test_soak.py` runs a few of each.

    python tests/soak                                  all of them
    python tests/soak fuzz --tries 100000 --seed 1
    python tests/soak kill --kills 1000 --workers 2
    python tests/soak events
    python tests/soak disks

fuzz    damages and forges checkpoints (`forgery.fuzz`): each is refused with a CheckpointError, or holds the same bits
kill    kills training runs with SIGKILL at random moments, again and again, until each ends; the bits must be those of
        a run without kills (`crashes.kill_at_random`); every run has 24 steps, 12 checkpoints, 5 validations
events  kills a run before every single file operation, and resumes it (`crashes.kill_at_every_file_event`)
disks   trains on disks of 4 to 128 KiB until they are full, then on a larger and a read-only one (`full_disks.fill`)

Results, on two cores (Python 3.11, NumPy 2.4):

    events  {'kills': 82}
    disks   {'full, no checkpoint yet': 19, 'full, the last checkpoint whole': 13}
    kill    {'kills': 502, 'runs': 141}     and with --workers 2 --kills 150: {'kills': 151, 'runs': 46}
    fuzz    {'damaged, refused': 10000, 'damaged and sealed, refused': 9450, 'damaged and sealed, the same arrays': 550,
             'forged, refused': 9994, 'forged, the same arrays': 6}

The first failure ends the program with a traceback; the same seed repeats it. It needs POSIX; `disks` needs Linux and
root.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")            # a fork of a process with threads may hang
sys.path.insert(0, str(Path(__file__).parents[1]))            # the helpers
sys.path.insert(0, str(Path(__file__).parents[2]))            # npattn

import numpy as np

from soak import crashes, full_disks
from support import forgery

Soak = Callable[[Path, argparse.Namespace, np.random.Generator], object]


def disks(folder: Path, args: argparse.Namespace) -> str:
    if not full_disks.available():
        return "skipped: this system does not allow to mount a small disk"
    return full_disks.in_a_namespace(folder, range(4, 129, args.every * 4))


SOAKS: dict[str, Soak] = {
    "fuzz": lambda folder, args, rng: dict(forgery.fuzz(folder, args.tries, rng)),
    "kill": lambda folder, args, rng: dict(crashes.kill_at_random(folder, args.kills, rng, args.workers)),
    "events": lambda folder, args, rng: dict(crashes.kill_at_every_file_event(folder, args.every)),
    "disks": lambda folder, args, rng: disks(folder, args),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", metavar="WHICH", help=f"of {', '.join(SOAKS)} (default: all)")
    parser.add_argument("--tries", type=int, default=30_000, help="files that fuzz damages (default: 30,000)")
    parser.add_argument("--kills", type=int, default=500, help="kills of kill (default: 500)")
    parser.add_argument("--workers", type=int, default=1, help="threads of the runs that are killed (default: 1)")
    parser.add_argument("--every", type=int, default=1, help="take only every n-th event, or size of disk")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if unknown := set(args.which) - set(SOAKS):
        parser.error(f"expected {', '.join(SOAKS)}, got {', '.join(unknown)}")
    warnings.filterwarnings("ignore", "Duplicate name")       # from zipfile: forged archives have members twice
    for which in args.which or SOAKS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="npattn-soak-") as folder:
            found = SOAKS[which](Path(folder), args, np.random.default_rng(args.seed))
        print(f"{which:7} {found}  ({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
