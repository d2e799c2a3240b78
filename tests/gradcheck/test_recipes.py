"""The recipes of npattn/gradcheck/README.md, run as they stand there, on right and on wrong gradients."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import npattn
from npattn.gradcheck import GradientError
from support import gradcheck_pairs as pairs

README = Path(npattn.__file__).parent / "gradcheck" / "README.md"
TORCH, JAX, HYPOTHESIS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
SLIPS = [1.0, 1 + 1e-6]


def run(recipe, slip, **names):
    """Run a recipe on gradients that are off by a factor of `slip`."""
    if slip == 1.0:
        exec(recipe, {"npattn": npattn, **names})
    else:
        with pytest.raises(GradientError, match=r"off by a factor of 1 \+ 1e-06"):
            exec(recipe, {"npattn": npattn, **names})


@pytest.fixture
def given_arrays():
    rng = np.random.default_rng(0)
    return rng.standard_normal((3, 4)), rng.standard_normal((4, 2))


@pytest.mark.parametrize("slip", SLIPS)
def test_torch_autograd_function(given_arrays, slip):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its recipe is not run")

    class MyFunction(torch.autograd.Function):
        @staticmethod
        def forward(ctx, X, W):
            T = torch.tanh(X @ W)
            ctx.save_for_backward(X, W, T)
            return T

        @staticmethod
        def backward(ctx, dY):
            X, W, T = ctx.saved_tensors
            dZ = dY * (1 - T * T)
            return dZ @ W.T, slip * X.T @ dZ

    X, W = map(torch.from_numpy, given_arrays)
    run(TORCH, slip, torch=torch, MyFunction=MyFunction, X=X, W=W)


@pytest.mark.parametrize("slip", SLIPS)
def test_jax_custom_vjp(given_arrays, slip):
    jax = pytest.importorskip("jax", reason="JAX is not installed: its recipe is not run")

    @jax.custom_vjp
    def my_function(X, W):
        return jax.numpy.tanh(X @ W)

    def start(X, W):
        T = my_function(X, W)
        return T, (X, W, T)

    def end(residuals, dY):
        X, W, T = residuals
        dZ = dY * (1 - T * T)
        return dZ @ W.T, slip * X.T @ dZ

    my_function.defvjp(start, end)
    jax.config.update("jax_enable_x64", True)
    X, W = map(jax.numpy.asarray, given_arrays)
    run(JAX, slip, jax=jax, my_function=my_function, X=X, W=W)


@pytest.mark.parametrize("slip", SLIPS)
def test_hypothesis(slip):
    names = {
        "given": given, "arrays": arrays, "array_shapes": array_shapes, "st": st, "warnings": warnings,
        "my_softmax": pairs.softmax, "my_softmax_backward": lambda dA, A: slip * pairs.softmax_backward(dA, A),
    }  # fmt: skip
    run(f"{HYPOTHESIS}\ntest_my_softmax()", slip, **names)
