"""The time of an import: `import npattn` against `import numpy`, and `import torch` where it is installed.

    python benchmarks/import_time.py [--rounds 15] [--torch-python PATH] [--json FILE]
    python benchmarks/import_time.py --profile

Each import is the only one in a fresh process, and the modules alternate. Two times are given: that of the import
statement, and that of the whole process from its start to its end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from _common import drawing, harness, tables
from _common.harness import Result, Runner

SHOWN = 15

#: The import comes first, so that no other import has already loaded modules that it needs.
SCRIPT = """
import time
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
import sys
sys.path.insert(0, {here!r})
from _common import machine
print(seconds, machine.peak_memory())
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(rounds=15)
    parser.add_argument("--profile", action="store_true", help="show the slowest modules instead")


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Import in fresh processes that alternate. The first one of each module compiles it and is not counted."""
    modules = ["npattn", "numpy", *(["torch"] if runner.torch_python else [])]
    peers: dict[str, list[Result]] = {module: [] for module in modules}
    with tempfile.TemporaryDirectory() as folder:
        env = compiling_into(folder)
        if options.profile:
            return {"profile": slowest_modules(env)}
        for i in range(options.rounds + 1):
            for module in modules:
                result = time_import(runner.python(module), module, env)
                if i:
                    peers[module].append(result)
    return {"peers": peers}


def compiling_into(folder: str) -> dict[str, str]:
    """The environment of a worker in which Python keeps compiled modules in this folder."""
    return harness.environment() | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}


def time_import(python: str, module: str, env: Mapping[str, str]) -> Result:
    """Seconds of the import statement and of its whole process."""
    command = [python, "-c", SCRIPT.format(module=module, here=str(Path(__file__).resolve().parent))]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    whole = time.perf_counter() - start
    seconds, peak = done.stdout.split()
    return {"seconds": [float(seconds)], "process_seconds": [whole], "peak_bytes": int(peak)}


def slowest_modules(env: Mapping[str, str]) -> list[tuple[str, int]]:
    """The modules that `import npattn` adds to `import numpy`, with the microseconds of each without its imports."""
    command = [sys.executable, "-X", "importtime", "-c", "import numpy; import npattn"]
    for _ in range(2):                                        # the first run compiles
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines()]
    times = [(row[2].strip(), int(row[0])) for row in rows if len(row) == 3 and row[0].strip().isdecimal()]
    added = times[[name for name, _ in times].index("numpy") + 1 :]
    return sorted(added, key=lambda row: -row[1])


def report(data: Result) -> str:
    """The medians and their ratios to numpy; or the slowest modules."""
    if "profile" in data:
        rows = [[name, f"{microseconds / 1000:.2f}"] for name, microseconds in data["profile"]]
        whole = ["all modules", f"{sum(own for _, own in data['profile']) / 1000:.2f}"]
        return tables.table(["added to import numpy by", "ms of its own"], [*rows[:SHOWN], whole])
    peers, rows = data["peers"], []
    for module, found in peers.items():
        row = [f"import {module}", tables.megabytes(tables.peak(found))]
        for key in ("seconds", "process_seconds"):
            row += [tables.milliseconds(tables.median(found, key)), str(tables.ratio(found, peers["numpy"], key))]
        rows.append(row)
    return tables.table(["", "peak MB", "import ms", "over numpy", "process ms", "over numpy"], rows)


def draw(data: Result, path: Path) -> None:
    """Bars: the times over that of numpy."""
    drawing.bars({"import": data["peers"]}, path, "import", base="numpy")


if __name__ == "__main__":
    raise SystemExit(harness.main(__name__))
