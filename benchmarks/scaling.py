"""How the time and memory of a training step grow with width, layers, batch, length and workers.

    python benchmarks/scaling.py [--axes width,layers,batch,length,workers] [--torch-python PATH] [--json FILE]

One dimension varies at a time. The others are those of CENTRE: vocabulary 1,000, width 256 with 8 heads, feed-forward
width 1,024 (always 4 times the width), 2 + 2 layers, batch 16, length 32. The steps are those of train_step.py.

The exponent p of time ≈ c·sizeᵖ is the slope of a straight line through the logarithms, over the greater half of the
sizes, where fixed costs matter least (for workers, over all). Memory is what the model and its steps add to the memory
of the process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from _common import drawing, harness, machine, tables
from _common.harness import Job, Result, Runner, some_of
from _common.sizes import TOY, Size
from train_step import npattn_worker, torch_worker  # noqa: F401  harness.main runs these

CENTRE = Size(vocabulary=1000, d_model=256, heads=8, d_ff=1024, layers=2, batch=16, length=32)
AXES = {
    "width": [64, 128, 256, 512],
    "layers": [1, 2, 4, 8],
    "batch": [4, 8, 16, 32, 64],
    "length": [32, 64, 128, 256],
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(rounds=1)
    axes = [*AXES, "workers"]
    parser.add_argument("--axes", type=some_of(axes), default=axes, help=f"some of {','.join(axes)}")


def jobs(axis: str, quick: bool) -> Iterator[tuple[int, Job]]:
    """Yield every size of an axis with its job."""
    centre = TOY if quick else CENTRE
    job = {"warm_up": 2, "repeats": 2 if quick else 5}
    if axis == "workers":
        for workers in sorted({1, 2, machine.cores(), 2 * machine.cores()}):
            yield workers, {**job, "size": asdict(centre), "workers": workers}
        return
    for value in [2, 4] if quick else AXES[axis]:
        if axis == "width":
            size = replace(centre, d_model=8 * value if quick else value, d_ff=4 * value)
        else:
            size = replace(centre, **{axis: value})
        yield value, {**job, "size": asdict(size)}


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Run npattn and PyTorch alternately at every size of every axis."""
    results: Result = {}
    for axis in options.axes:
        for value, job in jobs(axis, options.quick):
            harness.log(f"{axis} {value}")
            peers = {"npattn": job} if axis == "workers" else {"npattn": job, "torch": job}
            results.setdefault(axis, {})[str(value)] = runner.alternate(peers, options.rounds)
    return {"axes": results}


def report(data: Result) -> str:
    """The exponents, then the times and the memory of every axis."""
    return "\n\n".join([exponents(data["axes"]), *(details(axis, found) for axis, found in data["axes"].items())])


def exponents(axes: Result) -> str:
    """A table of the exponents; a peer that did not run along an axis has none there."""
    seen = {peer for found in axes.values() for peers in found.values() for peer in peers}
    columns = [(peer, curve) for curve in (times, memory) for peer in ("npattn", "torch") if peer in seen]
    rows = []
    for axis, found in axes.items():
        sizes = list(greater_half(axis, found))
        rows.append([axis, f"{sizes[0]}–{sizes[-1]}", *(exponent(axis, found, *column) for column in columns)])
    header = ["exponent of", "over", *(f"{peer} {curve.__name__.removesuffix('s')}" for peer, curve in columns)]
    return tables.table(header, rows)


def greater_half(axis: str, found: Result) -> Result:
    """The part of an axis that the exponents are fitted to."""
    return dict(list(found.items())[0 if axis == "workers" else (len(found) - 1) // 2 :])


def exponent(axis: str, found: Result, peer: str, curve: Callable[[Result, str], list[float]]) -> str:
    """The exponent of a peer's time or memory along an axis."""
    part = greater_half(axis, found)
    values = curve(part, peer)
    return f"{tables.exponent([int(size) for size in part], values):.2f}" if len(values) > 1 else "–"


def details(axis: str, found: Result) -> str:
    """The times and the memory along one axis."""
    peers = list(next(iter(found.values())))
    columns = [[tables.milliseconds(value / 1000) for value in times(found, peer)] for peer in peers]
    columns += [[f"{value:,.0f}" for value in memory(found, peer)] for peer in peers]
    header = [axis, *(f"{peer} ms" for peer in peers), *(f"{peer} MB added" for peer in peers)]
    return tables.table(header, list(zip(found, *columns, strict=True)))


def times(found: Result, peer: str) -> list[float]:
    """The milliseconds of a step; none when the peer is missing."""
    return [1000 * tables.median(peers[peer]) for peers in found.values() if peer in peers]


def memory(found: Result, peer: str) -> list[float]:
    """The megabytes that the model and its steps added."""
    return [max(tables.added(peers[peer]) / 1e6, 0.1) for peers in found.values() if peer in peers]


def draw(data: Result, path: Path) -> None:
    """A column for every axis: times above, memory below, exponents in the legends."""
    rows = []
    for curve, label in ((times, "ms a step"), (memory, "MB added")):
        panels = []
        for axis, found in data["axes"].items():
            peers = next(iter(found.values()))
            lines = {f"{peer}: {exponent(axis, found, peer, curve)}": curve(found, peer) for peer in peers}
            panels.append(drawing.Lines(f"{label} against {axis}", [int(each) for each in found], lines, axis, label))
        rows.append(panels)
    drawing.lines(rows, path)


if __name__ == "__main__":
    raise SystemExit(harness.main(__name__))
