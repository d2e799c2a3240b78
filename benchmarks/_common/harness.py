"""What every benchmark shares: fresh processes that take turns, timing inside them, and a common command line.

A benchmark is one script. Started by a user it is the parent: it loads nothing but the standard library and starts
itself again as a worker, `script.py --worker PEER JOB`, once for every figure. A worker does its one job and prints one
line of JSON. So every figure comes from a process that did nothing else before, its peak memory is its own, and NumPy
and PyTorch never share a process, where their thread pools would hinder each other.

Peers take turns (A B A B …) because the speed of a machine drifts: a ratio is formed between neighbours in time, and
the median of those ratios is what is quoted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common import machine

ROOT = Path(__file__).resolve().parents[2]

Job = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """One script: its workers by peer, its options, how it measures and how it reports.

    `measure(options, runner)` returns what goes into the JSON, `report` makes Markdown of that, `draw` writes a plot.
    """

    script: str
    description: str
    workers: Mapping[str, Callable[[Job], Result]]
    add_options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace, Runner], Result]
    report: Callable[[Result], str]
    draw: Callable[[Result, Path], None] | None = None

    @property
    def name(self) -> str:
        return Path(self.script).stem

    def parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add_common_options(parser)
        self.add_options(parser)
        parser.add_argument("--json", metavar="FILE", type=Path, help="write all raw figures to FILE")
        return parser

    def run(self, options: argparse.Namespace) -> Result:
        """Measure, and return the result with the machine it was measured on."""
        options.rounds = 1 if options.quick else options.rounds
        about = machine.describe(options.torch_python)
        log(machine.sentence(about))
        runner = Runner(self.script, (options.torch_python or sys.executable) if about["torch"] else None)
        day = time.strftime("%Y-%m-%d", time.gmtime())
        return {"benchmark": self.name, "date": day, "machine": about, **self.measure(options, runner)}


class Runner:
    """Starts the workers of a script, PyTorch's with an interpreter that has PyTorch (None: there is none)."""

    def __init__(self, script: str, torch_python: str | None) -> None:
        self.script, self.torch_python = script, torch_python

    def python(self, peer: str) -> str:
        """The interpreter of a peer."""
        return self.torch_python if peer == "torch" and self.torch_python else sys.executable

    def environment(self) -> dict[str, str]:
        """The environment of a worker: as it is, with the npattn beside the benchmarks first on the path."""
        return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}

    def call(self, peer: str, job: Job) -> Result:
        """Run one worker to its end and return its result; raises SystemExit with what a failed one wrote."""
        command = [self.python(peer), str(Path(self.script).resolve()), "--worker", peer, json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment())
        if done.returncode:
            raise SystemExit(f"{done.stderr}{self.script}: {peer} failed with status {done.returncode}, job {job}")
        return json.loads(done.stdout.splitlines()[-1])

    def take_turns(self, jobs: Mapping[str, Job], rounds: int) -> dict[str, list[Result]]:
        """Run the job of every peer in turn, `rounds` times; PyTorch's is left out when there is no PyTorch."""
        present = {peer: job for peer, job in jobs.items() if peer != "torch" or self.torch_python}
        results: dict[str, list[Result]] = {peer: [] for peer in present}
        for _ in range(rounds):
            for peer, job in present.items():
                results[peer].append(self.call(peer, job))
        return results


def timed(call: Callable[[], Any], job: Job) -> Result:
    """Seconds of each of the job's `repeats` calls, after `warm_up` calls that don't count.

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


def add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--torch-python", metavar="PATH", help="a Python that has PyTorch (default: this one)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each peer, taking turns (default: 3)")
    parser.add_argument("--quick", action="store_true", help="toy sizes, once: shows that everything works")


def some_of(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """The type of an option that names some of the choices, separated by commas."""

    def split(wanted: str) -> list[str]:
        names = [name.strip() for name in wanted.split(",")]
        if unknown := [name for name in names if name not in choices]:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(choices)}, got {','.join(unknown)}")
        return names

    return split


def integers(wanted: str) -> list[int]:
    """The type of an option of positive integers, separated by commas."""
    numbers = [int(name) if name.strip().isdecimal() else 0 for name in wanted.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected positive integers separated by commas, got {wanted}")
    return numbers


def main(benchmark: Benchmark, argv: Sequence[str] | None = None) -> int:
    """Run a script: as a worker when the first argument says so, else as the parent that reports."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--worker"]:
        result = benchmark.workers[argv[1]](json.loads(argv[2]))
        print(json.dumps({"peak_bytes": machine.peak_memory(), **result}))
        return 0
    options = benchmark.parser().parse_args(argv)
    data = benchmark.run(options)
    print(benchmark.report(data))
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


def log(line: str) -> None:
    """Progress goes to standard error, so that standard output is the report."""
    print(line, file=sys.stderr, flush=True)
