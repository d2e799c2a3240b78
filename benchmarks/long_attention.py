"""Attention over long sequences, forward and backward, in memory linear in the length.

    python benchmarks/long_attention.py [--lengths 512,1024,…] [--masks full,causal] [--torch-python PATH] [--json FILE]
    python benchmarks/long_attention.py --longest

One sequence, 8 heads of width 64, float32. npattn is `tiled_attention` with its backward. PyTorch is
`torch.nn.functional.scaled_dot_product_attention`, which without a mask uses its fused kernel on the CPU, with memory
O(N) too. The third peer runs only the seven products of each 512 × 512 tile: two forward and five backward, because
the scores are computed again to keep the memory O(N). --longest runs one pass at length 32,768.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _common import drawing, harness, tables
from _common.harness import Job, Result, Runner, integers, some_of, timed

HEADS, WIDTH, TILE = 8, 64, 512
MASKS = ["full", "causal"]
LONGEST = 32768


def arrays(N: int) -> list[Any]:
    """Q, K, V and dY (1, H, N, D)."""
    import numpy as np

    return list(np.random.default_rng(0).standard_normal((4, 1, HEADS, N, WIDTH), np.float32))


def npattn_worker(job: Job) -> Result:
    """Run forward and backward with npattn."""
    import npattn

    Q, K, V, dY = arrays(job["length"])

    def call() -> None:
        _, cache = npattn.tiled_attention(Q, K, V, causal=job["causal"])
        npattn.tiled_attention_backward(dY, cache)

    return timed(call, job)


def torch_worker(job: Job) -> Result:
    """Run forward and backward with PyTorch."""
    import torch

    Q, K, V, dY = map(torch.from_numpy, arrays(job["length"]))
    for each in (Q, K, V):
        each.requires_grad_()

    def call() -> None:
        Q.grad = K.grad = V.grad = None
        Y = torch.nn.functional.scaled_dot_product_attention(Q, K, V, is_causal=job["causal"])
        Y.backward(dY)

    return timed(call, job)


def products_worker(job: Job) -> Result:
    """Run only the products of the tiles; a share has its part of the heads."""
    from _common import products

    tile = min(TILE, job["length"])
    side = -(-job["length"] // tile)
    count = side * (side + 1) // 2 if job["causal"] else side * side   # the tiles that the mask does not hide wholly
    return products.limit(lambda i, n: products.tiles(count * len(range(i, HEADS, n)), tile, WIDTH), job)


def operations(length: int, causal: bool) -> int:
    """The operations of the seven products over the scores that are not masked."""
    scores = length * (length + 1) // 2 if causal else length**2
    return 7 * 2 * HEADS * WIDTH * scores


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lengths", type=integers, default=[512, 1024, 2048, 4096, 8192], help="of the sequences")
    parser.add_argument("--masks", type=some_of(MASKS), default=MASKS, help="some of full,causal")
    parser.add_argument("--longest", action="store_true", help=f"one pass of npattn at length {LONGEST:,} instead")


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Run npattn, PyTorch and the products alone alternately at every length."""
    lengths = [64, 128] if options.quick else options.lengths
    if options.longest:
        job = {"length": LONGEST, "warm_up": 0, "repeats": 1}
        return {"longest": {mask: runner.call("npattn", {**job, "causal": mask == "causal"}) for mask in options.masks}}
    results: Result = {}
    for mask in options.masks:
        for length in lengths:
            harness.log(f"{mask} {length}")
            repeats = max(2, min(20, 8192 // length))
            job = {"length": length, "causal": mask == "causal", "warm_up": 1, "repeats": repeats}
            case = results.setdefault(mask, {})
            case[str(length)] = runner.alternate({"npattn": job, "torch": job, "products": job}, options.rounds)
    return {"masks": results}


def report(data: Result) -> str:
    """For each mask the times and ratios, the rates and the memory; then the growth of time and memory."""
    if "longest" in data:
        return longest(data["longest"])
    parts = []
    for mask, by_length in data["masks"].items():
        rated = {N: (peers, operations(int(N), mask == "causal")) for N, peers in by_length.items()}
        parts.append(tables.comparison(f"{mask}, length", by_length, "products"))
        parts.append(tables.rates("length", rated, "products"))
    return "\n\n".join([*parts, growth(data["masks"])])


def longest(found: Result) -> str:
    rows = [[mask, f"{each['seconds'][0]:.1f}", tables.megabytes(each["peak_bytes"])] for mask, each in found.items()]
    return tables.table([f"length {LONGEST:,}", "npattn s", "peak MB"], rows)


def growth(masks: Result) -> str:
    """The exponents of time and of added memory, over the longer half of the lengths; and causal over full."""
    rows = []
    for mask, by_length in masks.items():
        long = list(by_length)[len(by_length) // 2 - 1 :] if len(by_length) > 2 else list(by_length)
        for peer in ("npattn", "torch"):
            if len(long) > 1 and peer in by_length[long[0]]:
                N, found = [int(each) for each in long], [by_length[each][peer] for each in long]
                time = tables.exponent(N, [tables.median(each) for each in found])
                memory = tables.exponent(N, [max(tables.added(each), 1) for each in found])
                rows.append([f"{peer}, {mask}", f"{N[0]}–{N[-1]}", f"{time:.2f}", f"{memory:.2f}"])
    text = tables.table(["exponents", "lengths", "time", "memory added"], rows) if rows else ""
    if set(masks) == {"full", "causal"}:
        shares = {N: tables.ratio(masks["causal"][N]["npattn"], masks["full"][N]["npattn"]) for N in masks["full"]}
        text += "\n\nTime of npattn with a causal mask over full: " + ", ".join(f"{N} {r}" for N, r in shares.items())
    return text


def draw(data: Result, path: Path) -> None:
    """Time and added memory against the length."""
    lengths = [int(N) for N in next(iter(data["masks"].values()))]
    times, memory = {}, {}
    for mask, by_length in data["masks"].items():
        for peer in ("npattn", "torch"):
            if all(peer in peers for peers in by_length.values()):
                name = peer if mask == "full" else f"{peer} {mask}"
                times[name] = [1000 * tables.median(peers[peer]) for peers in by_length.values()]
                memory[name] = [tables.added(peers[peer]) / 1e6 for peers in by_length.values()]
    title = "attention, forward + backward"
    panels = [drawing.Lines(title, lengths, times, "length", "ms"),
              drawing.Lines(title, lengths, memory, "length", "MB added")]  # fmt: skip
    drawing.lines([panels], path)


if __name__ == "__main__":
    raise SystemExit(harness.main(__name__))
