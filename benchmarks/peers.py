"""npattn's checker on the attention of others: which gradients are right, and what comes of a query without keys.

    pip install torch autograd numpy-ml && python benchmarks/peers.py

Prints a line for each question to each package that is installed: its version, the size of its folder, and the answer.
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


def verdict(forward: Callable[..., Any], backward: Callable[..., Any], *args: Any) -> str:
    """Check a pair; say how large the error is, or what is wrong."""
    try:
        report = npattn.check_gradients(forward, backward, args)
        return f"right, largest error {report.max_error:.1e} by {report.method}"
    except npattn.GradientError as error:
        return str(error.report).replace("\n", "\n    ")
    except Exception as error:                                # the peer's own, whatever it is
        return f"{type(error).__name__}: {error}"


def of_npattn() -> Iterator[tuple[str, str]]:
    """The core, version 7, and a query that may attend to nothing."""
    pair = npattn.scaled_dot_product_attention, npattn.scaled_dot_product_attention_backward
    v7 = npattn.attention.v7_multi_head
    yield "attention", verdict(*pair, Q, K, V)
    weights = RNG.normal(size=(4, 4, 4))                      # W_Q, W_K, W_V, W_O
    yield "multi-head", verdict(lambda *args: v7.forward(*args, n_heads=2), v7.backward, X, X, *weights)
    yield "a query without keys", str(pair[0](Q, K, V, np.zeros((3, 5), bool))[0].ravel()[:3])


def of_torch() -> Iterator[tuple[str, str]]:
    """The functional attention and the module, whose answers to a query without keys differ."""
    import torch

    def forward(function: Callable[..., Any], *arrays: Any) -> Any:
        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        Y = function(*tensors)
        return Y.detach().numpy(), (Y, tensors)

    def backward(dY: Any, cache: Any) -> Any:
        return tuple(g.numpy() for g in torch.autograd.grad(*cache, torch.tensor(dY), retain_graph=True))

    attention = torch.nn.functional.scaled_dot_product_attention
    module = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    yield "attention", verdict(partial(forward, attention), backward, Q, K, V)
    yield "multi-head", verdict(partial(forward, lambda X: module(X, X, X)[0]), backward, X)
    tensor, nothing = torch.tensor(X), torch.ones(2, 3, dtype=torch.bool)
    for wanted in (True, False):
        Y = module(tensor, tensor, tensor, key_padding_mask=nothing, need_weights=wanted)[0].detach()
        yield f"a query without keys, need_weights={wanted}", str(Y.numpy().ravel()[:3])


def of_autograd() -> Iterator[tuple[str, str]]:
    """It differentiates the formula as one writes it."""
    import autograd
    import autograd.numpy as anp

    def attention(args: Any) -> Any:
        Q, K, V = args
        E = anp.matmul(Q, anp.swapaxes(K, -1, -2)) / math.sqrt(Q.shape[-1])
        P = anp.exp(E - anp.max(E, -1, keepdims=True))
        return anp.matmul(P / anp.sum(P, -1, keepdims=True), V)

    yield "attention", verdict(lambda *args: autograd.make_vjp(attention)(args)[::-1], lambda dY, vjp: vjp(dY), Q, K, V)


def of_numpy_ml() -> Iterator[tuple[str, str]]:
    """It imports a name that moved within Python's library in version 3.3 and left its old place in 3.10."""
    if not hasattr(collections, "Hashable"):
        yield "import", "ImportError: collections.Hashable, gone since Python 3.10; given back for what follows"
        collections.Hashable = collections.abc.Hashable  # type: ignore[attr-defined]
    from numpy_ml.neural_nets.layers import DotProductAttention
    from numpy_ml.neural_nets.modules import MultiHeadedAttentionModule

    def attend(*args: Any) -> Any:
        layer = DotProductAttention()
        return layer.forward(*args), layer

    def multi_head(X: Any) -> Any:
        np.random.seed(0)                                     # it draws its weights from NumPy's global generator
        module = MultiHeadedAttentionModule(n_heads=2)
        return module.forward(X, X, X), module

    yield "attention", verdict(attend, lambda dY, layer: layer.backward(dY), Q, K, V)
    yield "multi-head, X (2, 3, 4)", verdict(multi_head, lambda dY, module: sum(module.backward(dY)), X)
    weights = multi_head(X[0])[1].derived_variables["attention_weights"][0]
    yield "multi-head, X (3, 4)", f"weights {weights.shape}, all {np.unique(weights)}"


PEERS = {"npattn": of_npattn, "torch": of_torch, "autograd": of_autograd, "numpy-ml": of_numpy_ml}


def size_of(name: str) -> float:
    """Return the megabytes, of 10⁶ bytes, of the folder that a package is imported from, without compiled Python."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    files = (file for file in Path(spec.origin).parent.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return sum(file.stat().st_size for file in files) / 1e6


def main() -> None:
    """Ask everybody who is there."""
    warnings.simplefilter("ignore")                           # of the peers: old escapes in strings, old functions
    for name, questions in PEERS.items():
        try:
            version = metadata.version(name) if name != "npattn" else npattn.__version__
        except metadata.PackageNotFoundError:
            print(f"{name}: not installed")
            continue
        print(f"{name} {version}, {size_of(name.replace('-', '_')):.1f} MB")
        for question, answer in questions():
            print(f"  {question}: {answer}")


if __name__ == "__main__":
    main()
