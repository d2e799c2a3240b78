"""Checking gradients: how long a check takes, and how small an error it finds.

    python benchmarks/gradcheck.py [--layers linear,layer_norm,…] [--torch-python PATH] [--json FILE]

`npattn.check_gradients` against `torch.autograd.gradcheck`, each with its defaults, on layers of the same sizes in
float64. An error is planted in the gradient of a layer's input in two ways: the whole gradient times 1 + δ, or one
entry of it times 1 + δ. The table gives the smallest of δ = 10⁻¹, 10⁻², … that the check finds together with all
greater ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _common import drawing, harness, tables
from _common.harness import Job, Result, Runner, some_of, timed

LAYERS = ["linear", "layer_norm", "attention", "multi_head"]
PLANTED = ("whole", "entry")
ROWS, WIDTH, HEADS = 5, 8, 2
ENTRY = 10                                                    # index into the flat gradient
DIGITS = 16

Plant = Callable[[Any], Any]                                  # a gradient → a copy with an error


def arguments(layer: str) -> list[Any]:
    """The arguments of a layer; the error is planted in the gradient of the first."""
    import numpy as np

    shapes = {
        "linear": [(ROWS, WIDTH), (WIDTH, 6), (6,)],
        "layer_norm": [(ROWS, WIDTH), (WIDTH,), (WIDTH,)],
        "attention": [(ROWS, WIDTH), (7, WIDTH), (7, WIDTH)],
        "multi_head": [(ROWS, WIDTH), (7, WIDTH), *[(WIDTH, WIDTH)] * 4],
    }
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes[layer]]


def npattn_worker(job: Job) -> Result:
    """Check a layer of npattn."""
    import npattn
    from npattn.attention import v7_multi_head as v7
    from npattn.layers import layer_norm, layer_norm_backward, linear, linear_backward

    layers: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "linear": (linear, linear_backward),
        "layer_norm": (layer_norm, layer_norm_backward),
        "attention": (npattn.scaled_dot_product_attention, npattn.scaled_dot_product_attention_backward),
        "multi_head": (lambda *args: v7.forward(*args, n_heads=HEADS), v7.backward),
    }
    args, (forward, backward) = arguments(job["layer"]), layers[job["layer"]]

    def check(plant: Plant | None = None) -> None:
        def planted(dY: Any, cache: Any) -> Any:
            first, *others = backward(dY, cache)[: len(args)]  # the others are of optional arguments, not given here
            return plant(first) if plant else first, *others

        npattn.check_gradients(forward, planted, args)

    return {**timed(check, job), "seen": {kind: seen(check, kind, npattn.GradientError) for kind in PLANTED}}


def torch_worker(job: Job) -> Result:
    """Check the same layer of PyTorch."""
    import torch
    from torch.autograd.gradcheck import GradcheckError
    from torch.nn import functional as F

    def multi_head(X_Q: Any, X: Any, W_Q: Any, W_K: Any, W_V: Any, W_O: Any) -> Any:
        Q, K, V = (Z.unflatten(-1, (HEADS, -1)).transpose(0, 1) for Z in (X_Q @ W_Q, X @ W_K, X @ W_V))
        return F.scaled_dot_product_attention(Q, K, V).transpose(0, 1).flatten(1) @ W_O

    layers: dict[str, Callable[..., Any]] = {
        "linear": lambda X, W, b: F.linear(X, W.T, b),
        "layer_norm": lambda X, gamma, beta: F.layer_norm(X, X.shape[-1:], gamma, beta),
        "attention": F.scaled_dot_product_attention,
        "multi_head": multi_head,
    }
    args = [torch.from_numpy(each).requires_grad_() for each in arguments(job["layer"])]

    def check(plant: Plant | None = None) -> None:
        class Planted(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, X: Any) -> Any:
                return X.clone()

            @staticmethod
            def backward(ctx: Any, dX: Any) -> Any:
                return torch.from_numpy(plant(dX.numpy())) if plant else dX

        def layer(X: Any, *others: Any) -> Any:
            return layers[job["layer"]](Planted.apply(X) if plant else X, *others)

        torch.autograd.gradcheck(layer, args)

    return {**timed(check, job), "seen": {kind: seen(check, kind, GradcheckError) for kind in PLANTED}}


def seen(check: Callable[[Plant], None], kind: str, failure: type[Exception]) -> int:
    """The greatest n such that the check finds all of δ = 10⁻¹ … 10⁻ⁿ; 0 for none."""
    for n in range(1, DIGITS + 1):
        try:
            check(planting(kind, 10.0**-n))
        except failure:
            continue
        return n - 1
    return DIGITS


def planting(kind: str, delta: float) -> Plant:
    """Return a function that plants an error in a gradient."""

    def plant(gradient: Any) -> Any:
        wrong = gradient.copy()
        if kind == "whole":
            wrong *= 1 + delta
        else:
            wrong.reshape(-1)[ENTRY] *= 1 + delta
        return wrong

    return plant


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", type=some_of(LAYERS), default=LAYERS, help=f"some of {','.join(LAYERS)}")


def measure(options: argparse.Namespace, runner: Runner) -> Result:
    """Run npattn and PyTorch alternately on every layer."""
    results = {}
    for layer in ["linear"] if options.quick else options.layers:
        harness.log(layer)
        job = {"layer": layer, "warm_up": 1, "repeats": 1 if options.quick else 7}
        results[layer] = runner.alternate({"npattn": job, "torch": job}, options.rounds)
    return {"layers": results}


def report(data: Result) -> str:
    """The times, and the smallest errors found."""
    rows = []
    for layer, peers in data["layers"].items():
        rows.append([layer, *(power(results[0]["seen"][kind]) for kind in PLANTED for results in peers.values())])
    header = ["smallest error found", *(f"{kind}, {peer}" for kind in PLANTED for peer in peers)]
    return tables.comparison("check of", data["layers"]) + "\n\n" + tables.table(header, rows)


def power(n: int) -> str:
    """10⁻ⁿ as code writes it."""
    return f"1e-{n}" if n else "none"


def draw(data: Result, path: Path) -> None:
    """Bars: the time of the check."""
    drawing.bars(data["layers"], path, "gradient check")


if __name__ == "__main__":
    raise SystemExit(harness.main(__name__))
