"""What every benchmark shares: fresh processes that alternate, timing inside them, and a common command line.

A benchmark is a script with these functions, which `main` calls by name:

    add_options(parser)          add the options of the script to those of all benchmarks
    measure(options, runner)     return the figures, which go into the JSON
    report(data)                 return the figures as tables in Markdown
    draw(data, path)             draw a plot of them
    PEER_worker(job)             run one job in a process of its own and return its figures

Started by a user, the script is the parent. It loads only the standard library and starts itself again as a worker,
`script.py --worker PEER JOB`, once for every figure. A worker runs its one job and prints one line of JSON. So every
figure is from a fresh process, its peak memory belongs to one job, and NumPy and PyTorch never share a process, where
their thread pools would slow each other down.

What is compared (npattn, PyTorch, …) is called a peer. The runs of the peers alternate (A B A B …), because the speed
of a machine drifts. Each ratio is of two runs that are neighbours in time, and reports give the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from _common import machine

ROOT = Path(__file__).resolve().parents[2]

Job = dict[str, Any]
Result = dict[str, Any]


def environment() -> dict[str, str]:
    """The environment of a worker: as it is, with the npattn beside the benchmarks first on the path."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


class Runner:
    """Starts the workers of a script. PyTorch's run in an interpreter that has PyTorch; None: there is none."""

    def __init__(self, script: str | None, torch_python: str | None) -> None:
        self.script, self.torch_python = str(script), torch_python

    def python(self, peer: str) -> str:
        """The interpreter of a peer."""
        return self.torch_python if peer == "torch" and self.torch_python else sys.executable

    def call(self, peer: str, job: Job) -> Result:
        """Run one worker to its end and return its result; a failed one raises SystemExit with its messages."""
        command = [self.python(peer), str(Path(self.script).resolve()), "--worker", peer, json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
        if done.returncode:
            raise SystemExit(f"{done.stderr}{self.script}: {peer} failed with status {done.returncode}, job {job}")
        return json.loads(done.stdout.splitlines()[-1])

    def alternate(self, jobs: Mapping[str, Job], rounds: int) -> dict[str, list[Result]]:
        """Run the job of every peer once a round, for `rounds` rounds; without PyTorch, leave out its job."""
        present = {peer: job for peer, job in jobs.items() if peer != "torch" or self.torch_python}
        results: dict[str, list[Result]] = {peer: [] for peer in present}
        for _ in range(rounds):
            for peer, job in present.items():
                results[peer].append(self.call(peer, job))
        return results


def timed(call: Callable[[], Any], job: Job) -> Result:
    """Seconds of each of the job's `repeats` calls, after `warm_up` calls that are not timed.

    `before_bytes` is the peak memory before the first call.
    """
    before, seconds = machine.peak_memory(), []
    for _ in range(job["warm_up"]):
        call()
    for _ in range(job["repeats"]):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "before_bytes": before}


def some_of(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """The type of an option that names some of the choices, separated by commas."""

    def split(given: str) -> list[str]:
        names = [name.strip() for name in given.split(",")]
        if unknown := [name for name in names if name not in choices]:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(choices)}, got {','.join(unknown)}")
        return names

    return split


def integers(given: str) -> list[int]:
    """The type of an option of positive integers, separated by commas."""
    numbers = [int(name) if name.strip().isdecimal() else 0 for name in given.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected positive integers separated by commas, got {given}")
    return numbers


def parser(script: ModuleType) -> argparse.ArgumentParser:
    """The command line of a benchmark: the common options and its own."""
    found = argparse.ArgumentParser(description=script.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--torch-python", metavar="PATH", help="a Python that has PyTorch (default: this one)")
    found.add_argument("--rounds", type=int, default=3, help="processes of each peer, alternating (default: 3)")
    found.add_argument("--quick", action="store_true", help="toy sizes, once: shows that everything works")
    script.add_options(found)
    found.add_argument("--json", metavar="FILE", type=Path, help="write all raw figures to FILE")
    return found


def run(script: ModuleType, options: argparse.Namespace) -> Result:
    """Measure, and return the figures together with the machine and the date."""
    options.rounds = 1 if options.quick else options.rounds
    about = machine.describe(options.torch_python)
    log(machine.summary(about))
    runner = Runner(script.__file__, (options.torch_python or sys.executable) if about["torch"] else None)
    day, name = time.strftime("%Y-%m-%d", time.gmtime()), Path(runner.script).stem
    return {"benchmark": name, "date": day, "machine": about, **script.measure(options, runner)}


def main(module: str, argv: Sequence[str] | None = None) -> int:
    """Run the benchmark in a module: as a worker when the first argument is --worker, else as the parent."""
    script, argv = sys.modules[module], list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--worker"]:
        result = getattr(script, f"{argv[1]}_worker")(json.loads(argv[2]))
        print(json.dumps({"peak_bytes": machine.peak_memory(), **result}))
        return 0
    options = parser(script).parse_args(argv)
    data = run(script, options)
    print(script.report(data))
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


def log(line: str) -> None:
    """Print progress on standard error; standard output has only the report."""
    print(line, file=sys.stderr, flush=True)
