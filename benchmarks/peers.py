"""npattn's gradient checker on the attention of other packages, and their output for a query without keys.

    pip install torch autograd numpy-ml && python benchmarks/peers.py

Prints the version of each installed package and the size of its folder, then a line for each result.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import npattn

RNG = np.random.default_rng(0)
Q, K, V = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 5, 4)), RNG.normal(size=(2, 5, 6))   # B = 2, N_Q = 3, N_X = 5
X = RNG.normal(size=(2, 3, 4))


def check(forward: Callable[..., Any], backward: Callable[..., Any], *args: Any) -> str:
    """Check a pair; return the largest error, or what is wrong."""
    try:
        report = npattn.check_gradients(forward, backward, args)
        return f"right, largest error {report.max_error:.1e} by {report.method}"
    except npattn.GradientError as error:
        return str(error.report).replace("\n", "\n    ")
    except Exception as error:                                # raised by the other package
        return f"{type(error).__name__}: {error}"


def npattn_results() -> Iterator[tuple[str, str]]:
    """The core, version 7, and a query that may attend to nothing."""
    pair = npattn.scaled_dot_product_attention, npattn.scaled_dot_product_attention_backward
    v7 = npattn.attention.v7_multi_head
    yield "attention", check(*pair, Q, K, V)
    weights = RNG.normal(size=(4, 4, 4))                      # W_Q, W_K, W_V, W_O
    yield "multi-head", check(lambda *args: v7.forward(*args, n_heads=2), v7.backward, X, X, *weights)
    yield "a query without keys", str(pair[0](Q, K, V, np.zeros((3, 5), bool))[0].ravel()[:3])


def torch_results() -> Iterator[tuple[str, str]]:
    """The function and the module. The outputs of the module for a query without keys depend on need_weights."""
    import torch

    def forward(function: Callable[..., Any], *arrays: Any) -> Any:
        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        Y = function(*tensors)
        return Y.detach().numpy(), (Y, tensors)

    def backward(dY: Any, cache: Any) -> Any:
        return tuple(g.numpy() for g in torch.autograd.grad(*cache, torch.tensor(dY), retain_graph=True))

    attention = torch.nn.functional.scaled_dot_product_attention
    module = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    yield "attention", check(partial(forward, attention), backward, Q, K, V)
    yield "multi-head", check(partial(forward, lambda X: module(X, X, X)[0]), backward, X)
    tensor, nothing = torch.tensor(X), torch.ones(2, 3, dtype=torch.bool)
    for need_weights in (True, False):
        Y = module(tensor, tensor, tensor, key_padding_mask=nothing, need_weights=need_weights)[0].detach()
        yield f"a query without keys, {need_weights=}", str(Y.numpy().ravel()[:3])


def autograd_results() -> Iterator[tuple[str, str]]:
    """autograd differentiates the formula."""
    import autograd
    import autograd.numpy as anp

    def attention(args: Any) -> Any:
        Q, K, V = args
        E = anp.matmul(Q, anp.swapaxes(K, -1, -2)) / math.sqrt(Q.shape[-1])
        P = anp.exp(E - anp.max(E, -1, keepdims=True))
        return anp.matmul(P / anp.sum(P, -1, keepdims=True), V)

    yield "attention", check(lambda *args: autograd.make_vjp(attention)(args)[::-1], lambda dY, vjp: vjp(dY), Q, K, V)


def numpy_ml_results() -> Iterator[tuple[str, str]]:
    """numpy-ml imports collections.Hashable, which Python 3.3 moved to collections.abc and Python 3.10 removed."""
    if not hasattr(collections, "Hashable"):
        yield "import", "ImportError: collections.Hashable, removed in Python 3.10; restored for the following checks"
        collections.Hashable = collections.abc.Hashable  # type: ignore[attr-defined]
    from numpy_ml.neural_nets.layers import DotProductAttention
    from numpy_ml.neural_nets.modules import MultiHeadedAttentionModule

    def attend(*args: Any) -> Any:
        layer = DotProductAttention()
        return layer.forward(*args), layer

    def multi_head(X: Any) -> Any:
        np.random.seed(0)                                     # numpy-ml draws from NumPy's global generator
        module = MultiHeadedAttentionModule(n_heads=2)
        return module.forward(X, X, X), module

    yield "attention", check(attend, lambda dY, layer: layer.backward(dY), Q, K, V)
    yield "multi-head, X (2, 3, 4)", check(multi_head, lambda dY, module: sum(module.backward(dY)), X)
    weights = multi_head(X[0])[1].derived_variables["attention_weights"][0]
    yield "multi-head, X (3, 4)", f"weights {weights.shape}, all {np.unique(weights)}"


PEERS = {"npattn": npattn_results, "torch": torch_results, "autograd": autograd_results, "numpy-ml": numpy_ml_results}


def size_of(name: str) -> float:
    """The size of a package's folder in MB of 10⁶ bytes, without compiled Python files."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    files = (file for file in Path(spec.origin).parent.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return sum(file.stat().st_size for file in files) / 1e6


def main() -> None:
    """Print the results of every package that is installed."""
    warnings.simplefilter("ignore")                           # the other packages use outdated escapes and functions
    for name, results in PEERS.items():
        try:
            version = metadata.version(name) if name != "npattn" else npattn.__version__
        except metadata.PackageNotFoundError:
            print(f"{name}: not installed")
            continue
        print(f"{name} {version}, {size_of(name.replace('-', '_')):.1f} MB")
        for what, result in results():
            print(f"  {what}: {result}")


if __name__ == "__main__":
    main()
