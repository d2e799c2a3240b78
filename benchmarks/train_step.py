"""A training step: forward, cross-entropy with smoothing 0.1, backward and Adam, in float32.

    python benchmarks/train_step.py [--sizes tiny,small,medium,base] [--torch-python PATH] [--json FILE]

npattn runs through `npattn.Trainer` with its defaults. PyTorch runs nn.Transformer and torch.optim.Adam eagerly, with
its defaults. models.py has the model. The third peer runs only the matrix products of the step (products.py).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from _common import drawing, harness, machine, tables
from _common.harness import Job, Result, Runner, some_of, timed
from _common.sizes import SIZES, TOY, Size, operations, products

#: The steps that each process times.
STEPS = {"tiny": 60, "small": 16, "medium": 10, "base": 5}
WARM_UP = 3


def npattn_worker(job: Job) -> Result:
    """Take steps with npattn."""
    import npattn
    from _common import models

    size, before = Size(**job["size"]), machine.peak_memory()
    model = models.npattn_model(size)
    trainer = npattn.Trainer(model, npattn.Adam(model.params, **models.ADAM), workers=job.get("workers"))
    batches, losses = itertools.cycle(models.batches(size)), []
    timings = timed(lambda: losses.append(trainer.step(*next(batches))), job)
    return {**timings, "losses": losses, "before_bytes": before}


def torch_worker(job: Job) -> Result:
    """Take the same steps with PyTorch; with `same_weights` in the job, from npattn's weights."""
    import torch

    from _common import models

    size, before = Size(**job["size"]), machine.peak_memory()
    module = models.torch_model(size)
    if job.get("same_weights"):
        models.copy_weights(models.npattn_model(size), module)
    optimizer = torch.optim.Adam(module.parameters(), **models.ADAM)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=models.PAD, label_smoothing=models.SMOOTHING)
    pairs = [tuple(map(torch.from_numpy, pair)) for pair in models.batches(size)]
    batches, losses = itertools.cycle(pairs), []

    def step() -> None:
        src, tgt = next(batches)
        optimizer.zero_grad()
        loss = criterion(module(src, tgt[:, :-1]).flatten(0, 1), tgt[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    return {**timed(step, job), "losses": losses, "before_bytes": before}


def products_worker(job: Job) -> Result:
    """Run only the matrix products of the step."""
    from _common.products import limit, step

    return limit(step(Size(**job["size"])), {**job, "warm_up": 1})


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=some_of(SIZES), default=list(SIZES), help=f"some of {','.join(SIZES)}")
    parser.add_argument("--workers", type=int, help="npattn's worker threads (default: as Trainer decides)")
    parser.add_argument("--neighbours", type=int, default=0, help="busy processes beside the measurements (default: 0)")
    parser.add_argument("--check", action="store_true", help="compare the losses from the same weights as well")


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Run npattn, PyTorch and the products alone alternately at every size."""
    sizes = {"toy": TOY} if options.quick else {name: SIZES[name] for name in options.sizes}
    results: Result = {}
    for name, size in sizes.items():
        harness.log(f"{name}: {size}")
        job: Job = {"size": asdict(size), "warm_up": WARM_UP, "repeats": STEPS.get(name, 2)}
        ours = {**job, "workers": options.workers}
        with busy(options.neighbours):
            peers = runner.alternate({"npattn": ours, "torch": job, "products": job}, options.rounds)
        results[name] = {"size": asdict(size), "peers": peers}
        if options.check and runner.torch_python:
            results[name]["losses"] = losses(runner, job)
    return {"sizes": results}


@contextlib.contextmanager
def busy(n: int) -> Iterator[None]:
    """Keep n processes busy beside the block; each wants a core for itself."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def losses(runner: Runner, job: Job) -> Result:
    """The losses of the first steps of both, from the same weights and on the same batches."""
    job = {**job, "repeats": 1, "same_weights": True}
    ours, theirs = (runner.call(peer, job)["losses"] for peer in ("npattn", "torch"))
    differences = [abs(a / b - 1) for a, b in zip(ours, theirs, strict=True)]
    return {"npattn": ours, "torch": theirs, "difference": max(differences)}


def report(data: Result) -> str:
    """The sizes, the times and ratios, the rates and the memory, and the agreement of the losses."""
    return "\n\n".join(filter(None, [dimensions(data), times(data), rates(data), agreement(data)]))


def dimensions(data: Result) -> str:
    """The dimensions of each step; encoder and decoder have so many layers each, source and target such a length."""
    found = {name: result["size"] for name, result in data["sizes"].items()}
    rows = [[name, *(f"{value:,}" for value in size.values())] for name, size in found.items()]
    return tables.table(["size", *next(iter(found.values()))], rows)


def times(data: Result) -> str:
    """The medians, and the ratios of neighbours in time."""
    found = {name: result["peers"] for name, result in data["sizes"].items()}
    text = tables.comparison("step", found, "products")
    ratios = [tables.ratio(peers["npattn"], peers["torch"]).median for peers in found.values() if "torch" in peers]
    if not ratios:
        return text
    mean = statistics.geometric_mean(ratios)
    return f"{text}\n\nGeometric mean of npattn / torch over the sizes shown: **{mean:.2f}**"


def rates(data: Result) -> str:
    """The operations of the products per second of the whole step, and the memory."""
    rows = {}
    for name, result in data["sizes"].items():
        rows[name] = (result["peers"], 3 * operations(products(Size(**result["size"]))))
    return tables.rates("step", rows, "products")


def agreement(data: Result) -> str:
    """How far apart the losses are; nothing without --check."""
    found = {name: result["losses"] for name, result in data["sizes"].items() if "losses" in result}
    if not found:
        return ""
    count = len(next(iter(found.values()))["npattn"])
    parts = ", ".join(f"{name} {each['difference']:.1e}" for name, each in found.items())
    return f"Losses of the first {count} steps from the same weights, greatest relative difference: {parts}"


def draw(data: Result, path: Path) -> None:
    """Bars: the time of each peer over that of PyTorch, or over that of npattn without PyTorch."""
    drawing.bars({name: result["peers"] for name, result in data["sizes"].items()}, path, "training step")


if __name__ == "__main__":
    raise SystemExit(harness.main(__name__))
