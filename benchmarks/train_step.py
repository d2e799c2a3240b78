"""A training step: forward, cross-entropy with smoothing 0.1, backward, Adam, in float32.

    python benchmarks/train_step.py [--sizes tiny,small,medium,base] [--torch-python PATH] [--json FILE]

npattn runs through `npattn.Trainer` with nothing set by hand, PyTorch eagerly with its defaults; the model is in
models.py. The step's matrix products alone (products.py) take their turn as a third peer.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict
from pathlib import Path

from _common import drawing, harness, machine, tables
from _common.harness import Benchmark, Job, Result, Runner, some_of, timed
from _common.sizes import SIZES, TOY, Size, operations, products

#: Steps that are timed in each process.
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
    """Take the same steps with PyTorch, from the same weights when the job asks for them."""
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
    """Run the step's matrix products and nothing else."""
    from _common.products import limit, step

    return limit(step(Size(**job["size"])), {**job, "warm_up": 1})


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=some_of(SIZES), default=list(SIZES), help=f"some of {','.join(SIZES)}")
    parser.add_argument("--workers", type=int, help="npattn's worker threads (default: as Trainer decides)")
    parser.add_argument("--check", action="store_true", help="compare the losses from the same weights as well")


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Let npattn, PyTorch and the products alone take turns at every size."""
    sizes = {"toy": TOY} if options.quick else {name: SIZES[name] for name in options.sizes}
    results: Result = {}
    for name, size in sizes.items():
        harness.log(f"{name}: {size}")
        job: Job = {"size": asdict(size), "warm_up": WARM_UP, "repeats": STEPS.get(name, 2)}
        ours = {**job, "workers": options.workers}
        peers = runner.take_turns({"npattn": ours, "torch": job, "products": job}, options.rounds)
        results[name] = {"size": asdict(size), "peers": peers}
        if options.check and runner.torch_python:
            results[name]["losses"] = losses(runner, job)
    return {"sizes": results}


def losses(runner: Runner, job: Job) -> Result:
    """The losses of the first steps of both, from the same weights and on the same batches."""
    job = {**job, "repeats": 1, "same_weights": True}
    ours, theirs = (runner.call(peer, job)["losses"] for peer in ("npattn", "torch"))
    differences = [abs(a / b - 1) for a, b in zip(ours, theirs, strict=True)]
    return {"npattn": ours, "torch": theirs, "difference": max(differences)}


def report(data: Result) -> str:
    """Times and ratios, then rates and memory."""
    return "\n\n".join(filter(None, [times(data), rates(data), agreement(data)]))


def times(data: Result) -> str:
    """Medians, and the ratios of neighbours in time."""
    found = {name: result["peers"] for name, result in data["sizes"].items()}
    text = tables.comparison("step", found, "products")
    ratios = [tables.ratio(peers["npattn"], peers["torch"]).median for peers in found.values() if "torch" in peers]
    if not ratios:
        return text
    mean = tables.geometric_mean(ratios)
    return f"{text}\n\nGeometric mean of npattn / torch over the sizes shown: **{mean:.2f}**"


def rates(data: Result) -> str:
    """Operations of the products per second of the whole step, and memory."""
    rows = {}
    for name, result in data["sizes"].items():
        rows[name] = (result["peers"], 3 * operations(products(Size(**result["size"]))))
    return tables.rates("step", rows, "products")


def agreement(data: Result) -> str:
    """How far the losses are apart, if that was asked for."""
    found = {name: result["losses"] for name, result in data["sizes"].items() if "losses" in result}
    if not found:
        return ""
    count = len(next(iter(found.values()))["npattn"])
    parts = ", ".join(f"{name} {each['difference']:.1e}" for name, each in found.items())
    return f"Losses of the first {count} steps from the same weights, greatest relative difference: {parts}"


def draw(data: Result, path: Path) -> None:
    """Bars: the time of each peer over PyTorch's, or over the products' without it."""
    drawing.bars({name: result["peers"] for name, result in data["sizes"].items()}, path, "training step")


BENCHMARK = Benchmark(
    script=__file__,
    description=__doc__ or "",
    workers={"npattn": npattn_worker, "torch": torch_worker, "products": products_worker},
    add_options=add_options,
    measure=measure,
    report=report,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(harness.main(BENCHMARK))
