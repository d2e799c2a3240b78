"""Which planted faults four gradient checkers find, each with its defaults.

    python benchmarks/found_faults.py [--seeds 5] [--checkers npattn,torch,autograd,jax]

The faults are those of tests/support/planted_faults.py: layers in NumPy with a wrong backward. For PyTorch, autograd
and JAX the same two functions are wrapped as an operation of that package. A checker that is not installed is left out:
run the script in an environment that has it, and join the tables.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests"), str(Path(__file__).resolve().parents[1])]

from support.planted_faults import CHANGES, FAULTS, LAYERS  # noqa: E402  # found on the path above

Check = Callable[[Any, Any, tuple[np.ndarray, ...]], bool]    # whether the pair passes


def npattn_check() -> Check:
    import npattn

    def passes(forward: Any, backward: Any, args: tuple[np.ndarray, ...]) -> bool:
        try:
            return npattn.check_gradients(forward, backward, args).ok
        except npattn.GradientError:
            return False

    return passes


def torch_check() -> Check:
    import torch

    def passes(forward: Any, backward: Any, args: tuple[np.ndarray, ...]) -> bool:
        class Operation(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> Any:
                y, ctx.cache = forward(*(tensor.detach().numpy().copy() for tensor in tensors))
                return torch.tensor(np.asarray(y))

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                grads = backward(dy.numpy() if dy.ndim else float(dy), ctx.cache)
                return tuple(torch.tensor(np.array(g, float)) for g in grads)

        tensors = [torch.tensor(array, requires_grad=True) for array in args]
        return torch.autograd.gradcheck(Operation.apply, tensors, raise_exception=False)

    return passes


def autograd_check() -> Check:
    from autograd.extend import defvjp_argnums, primitive
    from autograd.test_util import check_grads

    np.random.seed(0)                                         # check_grads draws its directions from this stream

    def passes(forward: Any, backward: Any, args: tuple[np.ndarray, ...]) -> bool:
        operation = primitive(lambda *arrays: np.asarray(forward(*arrays)[0])[()])

        def vjp(argnums: Any, y: Any, arrays: Any, options: Any) -> Any:
            cache = forward(*arrays)[1]
            return lambda dy: tuple(np.array(backward(dy, cache)[i], float) for i in argnums)

        defvjp_argnums(operation, vjp)
        try:
            check_grads(operation, modes=["rev"], order=1)(*args)
        except AssertionError:
            return False
        return True

    return passes


def jax_check() -> Check:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)

    def passes(forward: Any, backward: Any, args: tuple[np.ndarray, ...]) -> bool:
        @jax.custom_vjp
        def operation(*arrays: Any) -> Any:
            return jax.numpy.asarray(forward(*map(np.array, arrays))[0])

        def start(*arrays: Any) -> Any:
            return operation(*arrays), arrays

        def end(arrays: Any, dy: Any) -> Any:
            cache = forward(*map(np.array, arrays))[1]
            grads = backward(np.array(dy) if np.ndim(dy) else float(dy), cache)
            return tuple(jax.numpy.asarray(np.array(g, float)) for g in grads)

        operation.defvjp(start, end)
        try:
            check_grads(operation, tuple(map(jax.numpy.asarray, args)), order=1, modes=["rev"])
        except AssertionError:
            return False
        return True

    return passes


CHECKERS = {"npattn": npattn_check, "torch": torch_check, "autograd": autograd_check, "jax": jax_check}


def kind_of(name: str) -> str:
    what = name.partition(": ")[2]
    return what if what in CHANGES else "faults of one layer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds draw the arguments (default: 5)")
    parser.add_argument("--checkers", default=",".join(CHECKERS), help="some of them, with commas between")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    kinds = [*CHANGES, "faults of one layer"]
    print(f"| checker | right layers that fail | {' | '.join(kinds)} | all |")
    print("|---|" + "---:|" * (len(kinds) + 2))
    for name in options.checkers.split(","):
        try:
            passes = CHECKERS[name]()
        except ImportError:
            continue
        alarms = calls = 0
        missed = dict.fromkeys(kinds, 0)
        total = dict.fromkeys(kinds, 0)
        for seed in range(options.seeds):
            for layer in LAYERS.values():
                calls += 1
                alarms += not passes(layer.forward, layer.backward, layer.draw(np.random.default_rng(seed)))
            for fault in FAULTS:
                kind = kind_of(fault.name)
                total[kind] += 1
                missed[kind] += passes(fault.forward, fault.backward, fault.draw(np.random.default_rng(seed)))
        cells = [f"{missed[kind]} of {total[kind]}" for kind in kinds]
        every = f"{sum(missed.values())} of {sum(total.values())}"
        print(f"| {name} | {alarms} of {calls} | {' | '.join(cells)} | {every} |", flush=True)


if __name__ == "__main__":
    main()
