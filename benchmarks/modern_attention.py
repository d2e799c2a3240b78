"""What the ideas of versions 8 to 14 cost: windows, the delta rule, grouped queries, rotary positions.

    python benchmarks/modern_attention.py [--parts window,delta,grouped,rotary] [--torch-python PATH] [--json FILE]

One sequence, heads of width 64, float32, forward and backward unless said. *plain* is npattn without the idea.

- window: `tiled_attention` with a window of 1,024, 2 heads. Plain is all of the causal order.
- delta: version 14 in chunks of 64, 4 heads. Plain is causal `tiled_attention`. A decoder keeps the state of the one,
  K and V of the other.
- grouped: 16 heads of queries on 2 of keys and values. Plain repeats K and V for every head. *decode* is one query on
  a cache, forward alone, by `scaled_dot_product_attention`; *train* is causal `tiled_attention`. PyTorch is
  `scaled_dot_product_attention` with `enable_gqa=True`.
- rotary: version 9, 8 heads, so a width of 512. Plain is version 8. *turning* is the rotation by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _common import drawing, harness, tables
from _common.harness import Job, Result, Runner, some_of, timed

PARTS = {
    "window": ["4096", "8192", "16384", "32768"],
    "delta": ["1024", "2048", "4096", "8192", "16384"],
    "grouped": ["decode 32768", "train 2048"],
    "rotary": ["1024", "2048"],
}
TOYS = {"window": ["64", "128"], "delta": ["64", "128"], "grouped": ["decode 64", "train 64"], "rotary": ["16", "32"]}
WIDTH, WINDOW, CHUNK = 64, 1024, 64
HEADS = {"window": 2, "delta": 4, "grouped": 16, "rotary": 8}
KV_HEADS = 2

Call = Callable[[], Any]


def npattn_worker(job: Job) -> Result:
    """Run one case of npattn."""
    call, more = PREPARE[job["part"]](job)
    return timed(call, job) | more()


plain_worker = npattn_worker                                  # the job says which of the two


def arrays(*shapes: tuple[int, ...]) -> list[Any]:
    """Normal numbers of these shapes."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def window(job: Job) -> tuple[Call, Callable[[], Result]]:
    """Causal attention by tiles; with `idea`, within a window."""
    import npattn

    Q, K, V, dY = arrays(*[(1, HEADS["window"], job["length"], WIDTH)] * 4)
    reach = min(WINDOW, job["length"] // 4) if job["idea"] else None

    def call() -> None:
        _, cache = npattn.tiled_attention(Q, K, V, causal=True, window=reach)
        npattn.tiled_attention_backward(dY, cache)

    return call, dict


def delta(job: Job) -> tuple[Call, Callable[[], Result]]:
    """With `idea` the gated delta rule, else causal attention by tiles; and the bytes that a decoder keeps."""
    import numpy as np

    import npattn
    from npattn.attention import v14_gated_delta

    heads, N = HEADS["delta"], job["length"]
    Q, K, V, dY = arrays(*[(1, heads, N, WIDTH)] * 4)
    steps, beta = np.linspace(-0.1, 0, N, dtype=np.float32), np.full((1, heads, N), 0.5, np.float32)
    g = np.broadcast_to(steps, beta.shape).copy()
    kept = [K.nbytes + V.nbytes]

    def rule() -> None:
        _, cache = v14_gated_delta.forward(Q, K, V, g, beta, chunk=CHUNK)
        kept[0] = cache.S.nbytes
        v14_gated_delta.backward(dY, cache)

    def softmax() -> None:
        _, cache = npattn.tiled_attention(Q, K, V, causal=True)
        npattn.tiled_attention_backward(dY, cache)

    return rule if job["idea"] else softmax, lambda: {"kept_bytes": kept[0]}


def grouped(job: Job) -> tuple[Call, Callable[[], Result]]:
    """Many heads of queries on few of keys; without `idea`, K and V are repeated first."""
    import npattn

    Q, K, V = group(job)
    (dY,) = arrays(Q.shape)

    def call() -> None:
        k, v, options = K, V, {"grouped": True}
        if not job["idea"]:
            k, v, options = K.repeat(Q.shape[1] // KV_HEADS, 1), V.repeat(Q.shape[1] // KV_HEADS, 1), {}
        if job["kind"] == "decode":
            npattn.scaled_dot_product_attention(Q, k, v, **options)
        else:
            _, cache = npattn.tiled_attention(Q, k, v, causal=True, **options)
            npattn.tiled_attention_backward(dY, cache)

    return call, dict


def group(job: Job) -> list[Any]:
    """Q (1, H, 1 or N, D), K and V (1, H_K, N, D)."""
    N = job["length"]
    few = 1, KV_HEADS, N, WIDTH
    return arrays((1, HEADS["grouped"], 1 if job["kind"] == "decode" else N, WIDTH), few, few)


def rotary(job: Job) -> tuple[Call, Callable[[], Result]]:
    """With `idea` version 9, else version 8; and the seconds of the rotation by itself."""
    from npattn import layers
    from npattn.attention import v8_causal, v9_rotary

    n_heads, N = HEADS["rotary"], job["length"]
    d = n_heads * WIDTH
    X, *weights, dZ = arrays((1, N, d), *[(d, d)] * 4, (1, N, d))
    weights = [W / d**0.5 for W in weights]
    (Q,) = arrays((1, n_heads, N, WIDTH))
    theta = layers.rotary_frequencies(WIDTH)

    def call() -> None:
        version, options = (v9_rotary, {"frequencies": theta}) if job["idea"] else (v8_causal, {})
        _, cache = version.forward(X, *weights, n_heads=n_heads, **options)
        version.backward(dZ, cache)

    def turning() -> None:
        for _ in "QK":
            Y, cache = layers.rotary(Q, theta)
            layers.rotary_backward(Y, cache)

    return call, lambda: {"turning_seconds": timed(turning, job)["seconds"]}


PREPARE = {"window": window, "delta": delta, "grouped": grouped, "rotary": rotary}


def torch_worker(job: Job) -> Result:
    """Run grouped queries with PyTorch."""
    import torch

    Q, K, V = map(torch.from_numpy, group(job))
    decode, attend = job["kind"] == "decode", torch.nn.functional.scaled_dot_product_attention
    (dY,) = map(torch.from_numpy, arrays(tuple(Q.shape)))
    for each in (Q, K, V):
        each.requires_grad_(not decode)

    def call() -> None:
        Q.grad = K.grad = V.grad = None
        Y = attend(Q, K, V, is_causal=not decode, enable_gqa=True)
        if not decode:
            Y.backward(dY)

    return timed(call, job)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", type=some_of(PARTS), default=list(PARTS), help=f"some of {','.join(PARTS)}")


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Run npattn with and without the idea alternately, and PyTorch for grouped queries."""
    results: Result = {}
    for part in options.parts:
        for case in (TOYS if options.quick else PARTS)[part]:
            harness.log(f"{part} {case}")
            *kind, length = case.split()
            job = {"part": part, "kind": "".join(kind), "length": int(length), "warm_up": 1, "repeats": 5}
            if options.quick or (int(length) > 8192 and part != "grouped"):
                job["repeats"] = 2 - options.quick
            peers = {"npattn": job | {"idea": True}, "plain": job | {"idea": False}}
            if part == "grouped":
                peers["torch"] = job
            results.setdefault(part, {})[case] = runner.alternate(peers, options.rounds)
    return {"parts": results}


def report(data: Result) -> str:
    """A table for each part, and below that of the delta rule how its time grows."""
    parts = data["parts"]
    return "\n\n".join(text for part, columns in COLUMNS.items() if part in parts for text in columns(parts[part]))


def of_window(found: Result) -> list[str]:
    return [tables.comparison("window, length", found, "plain")]


def of_delta(found: Result) -> list[str]:
    rows = [
        [N, *(tables.milliseconds(tables.median(peers[peer])) for peer in ("npattn", "plain")),
         *(tables.megabytes(tables.added(peers[peer])) for peer in ("npattn", "plain")),
         *(f"{peers[peer][0]['kept_bytes'] / 1e3:,.0f}" for peer in ("npattn", "plain"))]
        for N, peers in found.items()
    ]  # fmt: skip
    header = ["delta, length", "npattn ms", "plain ms", "npattn MB added", "plain MB added", "state kB", "K and V kB"]
    growth = {peer: tables.exponent([int(N) for N in found], curve(found, peer)) for peer in ("npattn", "plain")}
    return [
        tables.table(header, rows),
        "Exponents of the time: " + ", ".join(f"{peer} {slope:.2f}" for peer, slope in growth.items()),
    ]


def of_grouped(found: Result) -> list[str]:
    copies = {case: 2 * 4 * WIDTH * HEADS["grouped"] * int(case.split()[1]) for case in found}
    shown = [peer for peer in ("npattn", "plain", "torch") if all(peer in peers for peers in found.values())]
    rows = [[case, *(tables.megabytes(tables.added(peers[peer])) for peer in shown), tables.megabytes(copies[case])]
            for case, peers in found.items()]  # fmt: skip
    header = ["grouped, length", *(f"{peer} MB added" for peer in shown), "K and V repeated, MB"]
    return [tables.comparison("grouped, length", found, "plain"), tables.table(header, rows)]


def of_rotary(found: Result) -> list[str]:
    shares = [(N, tables.median(peers["npattn"], "turning_seconds") / tables.median(peers["plain"]))
              for N, peers in found.items()]  # fmt: skip
    return [
        tables.comparison("rotary, length", found, "plain"),
        "Turning over plain: " + ", ".join(f"{N} {100 * share:.1f} %" for N, share in shares),
    ]


COLUMNS = {"window": of_window, "delta": of_delta, "grouped": of_grouped, "rotary": of_rotary}


def curve(found: Result, peer: str) -> list[float]:
    """The times of a peer."""
    return [tables.median(peers[peer]) for peers in found.values()]


def draw(data: Result, path: Path) -> None:
    """Time against the length of window and delta rule."""
    panels = [
        drawing.Lines(part, [int(N) for N in found], {
            peer: [1000 * seconds for seconds in curve(found, peer)] for peer in ("npattn", "plain")
        }, "length", "ms")
        for part, found in data["parts"].items() if part in ("window", "delta")
    ]  # fmt: skip
    drawing.lines([panels], path)


if __name__ == "__main__":
    raise SystemExit(harness.main(__name__))
