"""Data-parallel training on MPI: a step measured on one rank and on two, and predicted for many.

    python benchmarks/distributed.py [--sizes small,base] [--ranks 1,2] [--json FILE]

Weak scaling: each rank has one BLAS thread and the batch of train_step.py's size, so the global batch grows with the
number of ranks. A step sums the gradients of all ranks once, S bytes. This sum is timed twice: within the step, where
it includes the wait for the other ranks, and alone, after a barrier. Without mpi4py and an mpiexec (the extra `bench`)
there is one rank, without MPI.

The step on p ranks is predicted from the time C of a step on one rank, which sends nothing, and from a network of
bandwidth β (bytes a second, each way) and latency α (seconds a message), with one rank to a link:

    A(p) = 2 (p − 1)/p · S/β + 2 (p − 1) α          the sum, by a ring: reduce-scatter, then allgather
    E(p) = C / (C + A(p))                           efficiency; 1 means p times the tokens a second of one rank

The sum starts when all gradients are computed, so the two times are added. The formula leaves out the additions, which
are small beside S/β. On many ranks the ring is the slowest of the usual algorithms: halving and doubling takes
2 log₂p α in place of 2 (p − 1) α.

**Source**  Patarasuk, Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", J. Parallel
Distrib. Comput. 69 (2009); Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in MPICH",
Int. J. High Perform. Comput. Appl. 19 (2005).
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from _common import drawing, harness, machine, tables
from _common.harness import Job, Result, Runner, integers, some_of, timed
from _common.sizes import SIZES, TOY, Size

STEPS = {"tiny": 40, "small": 12, "medium": 8, "base": 5}
WARM_UP = 2

#: The numbers of ranks in the tables of predictions and in the plot.
PREDICTED = [8, 64, 512]
PLOTTED = [2**i for i in range(1, 10)]


class Network(NamedTuple):
    """The bandwidth of one rank, which sends and receives at once, and the time that a message takes to arrive."""

    bandwidth: float              # bytes a second
    latency: float                # seconds


#: Round numbers of common networks, through MPI: Ethernet with TCP, and a network card that reads and writes memory.
NETWORKS = {
    "10 Gb/s, 50 µs": Network(10e9 / 8, 50e-6),
    "100 Gb/s, 2 µs": Network(100e9 / 8, 2e-6),
}


def sum_seconds(ranks: int, size: float, network: Network) -> float:
    """A(p): the seconds that a ring of `ranks` takes to sum `size` bytes."""
    return 2 * (ranks - 1) / ranks * size / network.bandwidth + 2 * (ranks - 1) * network.latency


def efficiency(ranks: int, step: float, size: float, network: Network) -> float:
    """E(p), for a step of `step` seconds on one rank."""
    return step / (step + sum_seconds(ranks, size, network))


class TimedSums:
    """Wraps a communicator and records the seconds of each Allreduce."""

    def __init__(self, comm: Any) -> None:
        self.comm, self.seconds = comm, list[float]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comm, name)

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:
        start = time.perf_counter()
        self.comm.Allreduce(sendbuf, recvbuf)
        self.seconds.append(time.perf_counter() - start)


def mpiexec() -> str | None:
    """The mpiexec beside this Python, else the first one on the path; None when MPI cannot be used."""
    if importlib.util.find_spec("mpi4py") is None:
        return None
    return shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")


def npattn_worker(job: Job) -> Result:
    """Start the ranks, with one BLAS thread each, and return their figures."""
    launcher = [mpiexec(), "-n", str(job["ranks"])] if job["ranks"] > 1 else []
    environment = harness.environment() | dict.fromkeys(machine.THREAD_VARIABLES, "1")
    with tempfile.TemporaryDirectory(prefix="npattn-ranks-") as folder:
        command = [*launcher, sys.executable, __file__, "--worker", "rank", json.dumps({**job, "folder": folder})]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{done.stdout}{done.stderr}{job['ranks']} ranks failed with status {done.returncode}")
        ranks = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(job["ranks"])]
    return {**ranks[0], **{key: [s for rank in ranks for s in rank[key]] for key in ("in_step", "alone")}}


def rank_worker(job: Job) -> Result:
    """Take steps on one rank. The figures go to a file in the job's folder, because the output of ranks mixes."""
    import npattn
    from _common import models
    from npattn.training.ranks import world

    comm = TimedSums(world()) if job["ranks"] > 1 else None
    size = Size(**job["size"])
    model = models.npattn_model(size)
    trainer = npattn.Trainer(model, npattn.Adam(model.params, **models.ADAM), workers=1, comm=comm)
    batches = itertools.cycle(models.batches(replace(size, batch=size.batch * job["ranks"])))
    result = timed(lambda: trainer.step(*next(batches)), job)
    numbers = model.params.flat.size + 2                      # the sum includes the loss and the requests to stop
    in_step = comm.seconds[-job["repeats"] :] if comm else []
    result |= {"bytes": 4 * numbers, "in_step": in_step, "alone": bare_sums(comm, numbers, job)}
    Path(job["folder"], f"{trainer.ranks.rank}.json").write_text(json.dumps(result))
    return {}


def bare_sums(comm: Any, numbers: int, job: Job) -> list[float]:
    """Seconds of the sum alone, which all ranks start together."""
    import numpy as np

    if comm is None:
        return []
    buffer = np.zeros(numbers, np.float32)
    for _ in range(job["warm_up"] + job["repeats"]):
        comm.Barrier()
        comm.Allreduce(None, buffer)
    return comm.seconds[-job["repeats"] :]


def add_options(parser: argparse.ArgumentParser) -> None:
    chosen = ["small", "base"]
    parser.add_argument("--sizes", type=some_of(SIZES), default=chosen, help=f"some of {','.join(SIZES)}")
    parser.add_argument("--ranks", type=integers, default=[1, 2], help="numbers of ranks, 1 first (default: 1,2)")


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Run the numbers of ranks alternately at every size."""
    sizes = {"toy": TOY} if options.quick else {name: SIZES[name] for name in options.sizes}
    numbers = sorted({1, *options.ranks}) if mpiexec() else [1]
    results: Result = {}
    for name, size in sizes.items():
        harness.log(f"{name}: {size}, ranks: {', '.join(map(str, numbers))}")
        job: Job = {"size": asdict(size), "warm_up": WARM_UP, "repeats": STEPS.get(name, 2)}
        found: dict[str, list[Result]] = {str(ranks): [] for ranks in numbers}
        for _ in range(options.rounds):
            for ranks in numbers:
                found[str(ranks)].append(runner.call("npattn", {**job, "ranks": ranks}))
        results[name] = {"size": asdict(size), "ranks": found}
    return {"sizes": results}


def report(data: Result) -> str:
    """The measured steps, then the predicted ones."""
    return "\n\n".join([measured(data), *(predicted(name, each["ranks"]["1"]) for name, each in data["sizes"].items())])


def measured(data: Result) -> str:
    """A row for each number of ranks at each size."""
    rows = []
    for name, each in data["sizes"].items():
        for ranks, results in each["ranks"].items():
            row = [name, ranks, tables.milliseconds(tables.median(results))]
            if ranks == "1":
                rows.append([*row, "–", "–", "–", "1"])
                continue
            in_step, alone = tables.median(results, "in_step"), tables.median(results, "alone")
            within = f"{tables.milliseconds(in_step)} ({in_step / tables.median(results):.0%})"
            rate = f"{results[0]['bytes'] / alone / 1e9:.2f}"
            rows.append([*row, within, tables.milliseconds(alone), rate, tables.ratio(each["ranks"]["1"], results)])
    header = ["step of npattn", "ranks", "ms", "sum within it, ms", "sum alone, ms", "GB/s", "efficiency"]
    text = tables.table(header, rows)
    return text if any(len(each["ranks"]) > 1 for each in data["sizes"].values()) else f"{text}\n\nNo MPI: one rank."


def predicted(name: str, results: list[Result]) -> str:
    """A row for each network and number of ranks."""
    step, size = tables.median(results), results[0]["bytes"]
    rows = []
    for title, network in NETWORKS.items():
        for ranks in PREDICTED:
            seconds, share = sum_seconds(ranks, size, network), efficiency(ranks, step, size, network)
            times = [tables.milliseconds(seconds), tables.milliseconds(step + seconds)]
            rows.append([title, ranks, *times, f"{share:.0%}", f"{ranks * share:,.1f}"])
    header = [f"{name}, predicted", "ranks", "sum ms", "step ms", "efficiency", "times the tokens/s of one"]
    about = f"{name}: {tables.milliseconds(step)} ms on one rank, gradients of {tables.megabytes(size)} MB"
    return f"{about}, summed by a ring.\n\n{tables.table(header, rows)}"


def draw(data: Result, path: Path) -> None:
    """The predictions for the largest model: the time of the sum, and the efficiency, also of faster ranks."""
    name, results = max(
        ((name, each["ranks"]["1"]) for name, each in data["sizes"].items()), key=lambda one: one[1][0]["bytes"]
    )
    step, size = tables.median(results), results[0]["bytes"]
    sums = {title: [1000 * sum_seconds(p, size, net) for p in PLOTTED] for title, net in NETWORKS.items()}
    shares = {
        title + suffix: [100 * efficiency(p, step / faster, size, net) for p in PLOTTED]
        for faster, suffix in ((1, ""), (10, ", 10 × faster ranks"))
        for title, net in NETWORKS.items()
    }
    panels = [
        drawing.Lines(f"{name}: the sum of the gradients", PLOTTED, sums, "ranks", "ms"),
        drawing.Lines(f"{name}: efficiency", PLOTTED, shares, "ranks, each with its own batch", "%", percent=True),
    ]
    drawing.lines([panels], path)


if __name__ == "__main__":
    raise SystemExit(harness.main(__name__))
