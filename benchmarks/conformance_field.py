"""What the field's attention shows on the cases of npattn.conformance.

    python benchmarks/conformance_field.py [--dtypes float64,float32,bfloat16,float16] [--only NAME]

One line for each implementation and dtype: how many cases pass, fail and are not offered, the largest error in units of
the bound (1 is the most that right arithmetic can reach), and every case that fails, with its message. What isn't
installed is left out, and said. What doesn't import has a line with its error. All runs are on the CPU. NumPy's arrays
in bfloat16 need the package ml_dtypes.
"""

from __future__ import annotations

import argparse
import collections
import collections.abc
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.attention.masks import causal_mask
from npattn.attention.tiled import tiled_attention, tiled_attention_backward
from npattn.conformance import Report, judge
from npattn.transformer.fast.attention import Cache, attend, attend_backward
from npattn.transformer.fast.packing import Packing

DTYPES = ("float64", "float32", "bfloat16", "float16")
NUMPYS = ("float64", "float32", "float16")                    # bfloat16 is none of NumPy's own


class Entry(NamedTuple):
    """An implementation: its name, its framework, how to call it, the dtypes it has, and why it can't be called."""

    name: str
    framework: str
    forward: Callable[..., Any]
    backward: Callable[..., Any] | None = None
    dtypes: tuple[str, ...] = DTYPES
    error: str = ""


HEAD = (
    "| implementation | dtype | passed | failed | not offered | largest error, in bounds | of those that fail |",
    "|---|---|---:|---:|---:|---:|---|",
)


def line(entry: Entry, report: Report) -> str:
    """Return the row of the table."""
    counts, failed = report.counts, [outcome for outcome in report.outcomes if outcome.status == "failed"]
    worst = max((outcome.worst for outcome in report.outcomes if outcome.status == "passed"), default=0.0)
    names = {o.message: [other.case for other in failed if other.message == o.message] for o in failed}
    tested = counts["passed"] + counts["failed"]

    def which(cases: list[str]) -> str:
        many = f"{len(cases)} cases, {cases[0]} among them"
        return "all" if len(cases) == tested else " / ".join(cases) if len(cases) < 6 else many

    said = "; ".join(f"{which(cases)}: {message.strip()}" for message, cases in names.items())
    numbers = f"{counts['passed']} | {counts['failed']} | {counts['skipped']} | {worst:.2g}"
    return f"| {entry.name} | {report.dtype} | {numbers} | {said.replace('|', '/')} |"


def numpy_entries() -> Iterator[Entry]:
    """Yield npattn's own."""
    core = scaled_dot_product_attention, scaled_dot_product_attention_backward
    yield Entry("npattn, core", "numpy", *core, DTYPES[1:2])  # in float64 it is the right answer
    yield Entry("npattn, tiled", "numpy", tiled_attention, tiled_attention_backward, DTYPES[:2])
    yield Entry("npattn, fast path of training", "numpy", fast, fast_backward, DTYPES[:2])


def fast(Q: Array, K: Array, V: Array, *, mask: Array | None = None, causal: bool = False) -> tuple[Array, Any]:
    """What npattn.transformer.fast.attention does between its projections, for tokens that are all real."""
    if V.shape[-1] != Q.shape[-1]:
        raise NotImplementedError("values of the width of the queries")
    if mask is not None:
        mask = with_heads(mask.reshape((1,) * (Q.ndim - mask.ndim) + mask.shape))
        if mask.shape[1] > 1:
            raise NotImplementedError("one mask for all heads")
    if causal:
        order = causal_mask(Q.shape[-2], K.shape[-2])
        mask = order[None, None] if mask is None else mask & order
    Q4, K4, V4 = map(with_heads, (Q, K, V))
    (B, H, N, D), bias = Q4.shape, None if mask is None else np.where(mask, 0, -np.inf).astype(Q.dtype)
    queries = Packing((B, N), None, None, None)
    keys = Packing((B, K.shape[-2]), None, None, bias)
    A, dropped, Y, _ = attend(Q4, K4, V4, queries, keys, 0.0, None)
    identity = np.eye(H * D, dtype=Q.dtype)                   # W_O; the rows that are projected don't matter here
    cache = Cache(Y, Y, identity, identity, Q4, K4, V4, A, dropped, Y, None, False, queries, keys)
    return Y.reshape(B, N, H, D).swapaxes(1, 2).reshape(Q.shape), (cache, Q.shape, K.shape)


def fast_backward(dY: Array, cache: Any) -> tuple[Array, ...]:
    layer, *shapes = cache
    (B, H, N, D), N_X = layer.Q.shape, layer.K.shape[2]
    dQ, dKV = np.empty((B, N, H, D), dY.dtype), np.empty((B, N_X, 2, H, D), dY.dtype)
    attend_backward(with_heads(dY).swapaxes(1, 2).reshape(B * N, H * D), layer, dQ, dKV)
    gradients = zip((dQ, dKV[:, :, 0], dKV[:, :, 1]), (*shapes, shapes[1]), strict=True)
    return tuple(dX.swapaxes(1, 2).reshape(shape) for dX, shape in gradients)


def with_heads(X: Array) -> Array:
    """Return (batch, head, position, width) of arrays that may lack the batch and the head."""
    return X[(None, None)] if X.ndim == 2 else X[:, None] if X.ndim == 3 else X


def torch_entries() -> Iterator[Entry]:
    """Yield PyTorch's, each with the options that it has."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.attention.flex_attention import flex_attention
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    def by(backend: SDPBackend) -> Callable[..., Any]:
        def attention(
            Q: Any, K: Any, V: Any, *, mask: Any = None, bias: Any = None, causal: bool = False, scale: Any = None,
            grouped: bool = False,
        ) -> Any:  # fmt: skip
            if (mask is not None) + (bias is not None) + causal > 1:
                raise NotImplementedError("one of mask, bias and causal order at a time")
            given = mask if bias is None else bias
            given = None if given is None else given.expand(*Q.shape[:-1], K.shape[-2])
            with sdpa_kernel(backend):
                try:
                    return sdpa(Q, K, V, attn_mask=given, is_causal=causal, scale=scale, enable_gqa=grouped)
                except RuntimeError as error:
                    if "No viable backend" in str(error) or "No available kernel" in str(error):
                        raise NotImplementedError("this kernel does not take these arguments") from None
                    raise

        return attention

    yield Entry("torch SDPA, math", "torch", by(SDPBackend.MATH))
    yield Entry("torch SDPA, flash (4 axes)", "torch", four_axes(by(SDPBackend.FLASH_ATTENTION)))

    def multi_head(Q: Any, K: Any, V: Any, *, mask: Any = None, causal: bool = False) -> Any:
        """nn.MultiheadAttention of one head, with identities for its projections."""
        D = Q.shape[-1]
        if V.shape[-1] != D or Q.ndim > 3:
            raise NotImplementedError("values of the width of the queries, one batch axis")
        layer = torch.nn.MultiheadAttention(D, 1, bias=False, batch_first=True, dtype=Q.dtype)
        with torch.no_grad():
            layer.in_proj_weight.copy_(torch.eye(D, dtype=Q.dtype).repeat(3, 1))
            layer.out_proj.weight.copy_(torch.eye(D, dtype=Q.dtype))
        hidden = None if mask is None else ~mask
        if causal:
            hidden = torch.ones(Q.shape[-2], K.shape[-2], dtype=torch.bool).triu(1) | (False if mask is None else ~mask)
        return layer(Q, K, V, attn_mask=hidden, need_weights=False)[0]

    yield Entry("torch nn.MultiheadAttention", "torch", multi_head)

    def flex(
        Q: Any, K: Any, V: Any, *, mask: Any = None, bias: Any = None, causal: bool = False, offset: int = 0,
        window: int | None = None, softcap: float | None = None, scale: Any = None, grouped: bool = False,
    ) -> Any:  # fmt: skip
        scores = (*Q.shape[:-1], K.shape[-2])
        mask, bias = (None if X is None else X.expand(scores) for X in (mask, bias))

        def change(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
            if softcap:
                score = softcap * torch.tanh(score / softcap)
            if bias is not None:
                score = score + bias[b, h, i, j]
            seen = (j <= i + offset) if causal or window else (j >= 0)
            if window:
                seen = seen & (j > i + offset - window)
            if mask is not None:
                seen = seen & mask[b, h, i, j]
            return torch.where(seen, score, -torch.inf)

        return flex_attention(Q, K, V, score_mod=change, scale=scale, enable_gqa=grouped)

    yield Entry("torch flex_attention, eager, outputs alone", "numpy", outputs_alone(four_axes(flex)), None, NUMPYS)


def outputs_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take and return NumPy's arrays: flex_attention has no backward on the CPU."""
    import torch

    def attention(*args: Any, **options: Any) -> Any:
        def tensor(value: Any) -> Any:
            return torch.tensor(value) if isinstance(value, np.ndarray) else value

        return function(*map(tensor, args), **{name: tensor(value) for name, value in options.items()}).numpy()

    attention.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return attention


def four_axes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give arrays axes of 1 in front, as kernels for (batch, head, position, width) need, and take them away after."""

    def attention(Q: Any, K: Any, V: Any, **options: Any) -> Any:
        lead = (None,) * (4 - Q.ndim)
        Y = function(*(X[lead] for X in (Q, K, V)), **options)
        return Y.reshape(Y.shape[len(lead):])

    attention.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return attention


def jax_entries() -> Iterator[Entry]:
    """Yield jax.nn.dot_product_attention, whose axes are (batch, position, head, width)."""
    import jax

    def attention(
        Q: Any, K: Any, V: Any, *, mask: Any = None, bias: Any = None, causal: bool = False, scale: Any = None,
        grouped: bool = False,
    ) -> Any:  # fmt: skip
        if V.shape[-1] != K.shape[-1]:
            raise NotImplementedError("values of the width of the keys")
        lead = (None,) * (4 - Q.ndim)
        shape = (*(1,) * len(lead), *Q.shape[:-1], K.shape[-2])
        mask, bias = (None if X is None else jax.numpy.broadcast_to(X, shape) for X in (mask, bias))
        Y = jax.nn.dot_product_attention(
            *(X[lead].swapaxes(1, 2) for X in (Q, K, V)), mask=mask, bias=bias, is_causal=causal, scale=scale
        )
        return Y.swapaxes(1, 2).reshape(*Q.shape[:-1], V.shape[-1])

    yield Entry("jax.nn.dot_product_attention", "jax", attention, dtypes=DTYPES[1:])  # no float64 by default


def transformers_entries() -> Iterator[Entry]:
    """Yield the eager attention of Llama and of Gemma 2 in transformers, which take a mask that is added."""
    import torch
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma
    from transformers.models.llama.modeling_llama import eager_attention_forward as llama

    def by(eager: Callable[..., Any]) -> Callable[..., Any]:
        def attention(
            Q: Any, K: Any, V: Any, *, mask: Any = None, causal: bool = False, offset: int = 0,
            window: int | None = None, softcap: float | None = None, scale: float | None = None, grouped: bool = False,
        ) -> Any:  # fmt: skip
            if softcap and eager is llama:
                raise NotImplementedError("softcap")
            i, j = torch.arange(Q.shape[-2])[:, None], torch.arange(K.shape[-2])
            seen = (j <= i + offset) if causal or window else (i >= 0) & (j >= 0)
            seen = seen & (j > i + offset - window) if window else seen
            seen = seen if mask is None else seen & mask
            added = torch.zeros(seen.shape, dtype=Q.dtype).masked_fill(~seen, torch.finfo(Q.dtype).min)
            layer = torch.nn.Module()
            layer.num_key_value_groups = Q.shape[-3] // K.shape[-3]
            s = Q.shape[-1] ** -0.5 if scale is None else scale
            options = {"softcap": softcap} if eager is gemma else {"dropout": 0.0}
            return eager(layer, Q, K, V, added, scaling=s, **options)[0].transpose(1, 2)

        return attention

    yield Entry("transformers, Llama eager", "torch", four_axes(by(llama)))
    yield Entry("transformers, Gemma 2 eager", "torch", four_axes(by(gemma)))


def onnx_entries() -> Iterator[Entry]:
    """Yield the operator Attention as onnx.reference evaluates it, which has outputs alone."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    def attention(
        Q: Any, K: Any, V: Any, *, mask: Any = None, bias: Any = None, causal: bool = False, offset: int = 0,
        window: int | None = None, softcap: float | None = None, scale: Any = None, grouped: bool = False,
    ) -> Any:  # fmt: skip
        if mask is not None and bias is not None:
            raise NotImplementedError("one of mask and bias at a time")
        if offset < 0:
            raise NotImplementedError("a negative offset")
        given = mask if bias is None else bias
        given = None if given is None else np.broadcast_to(given, (*Q.shape[:-1], K.shape[-2]))
        arrays = {"Q": Q, "K": K[..., offset:, :], "V": V[..., offset:, :], "attn_mask": given}
        if offset:                                            # the keys before the first query are those of the past
            arrays |= {"past_key": K[..., :offset, :], "past_value": V[..., :offset, :]}
        options = {"is_causal": int(causal), "softcap": softcap, "scale": scale}
        if window:
            options |= {"left_window_size": window - 1, "right_window_size": 0}
        names = [name if array is not None else "" for name, array in arrays.items()]
        results = ["Y", "present_key", "present_value"][: 3 if offset else 1]
        feeds = {name: array for name, array in arrays.items() if array is not None}
        kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feeds.items()}
        graph = helper.make_graph(
            [helper.make_node("Attention", names, results, **options)], "attention",
            [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
            [helper.make_tensor_value_info(name, kinds["Q"], None) for name in results],
        )  # fmt: skip
        return ReferenceEvaluator(helper.make_model(graph)).run(["Y"], feeds)[0]

    yield Entry("onnx.reference, Attention, outputs alone", "numpy", four_axes(attention))


def autograd_entries() -> Iterator[Entry]:
    """Yield autograd's gradients of the formula, which is written here: autograd has no attention."""
    import autograd
    import autograd.numpy as anp

    def attention(
        Q: Any, K: Any, V: Any, *, mask: Any = True, bias: Any = None, causal: bool = False, offset: int = 0,
        window: int | None = None, softcap: float | None = None, scale: Any = None, grouped: bool = False,
    ) -> Any:  # fmt: skip
        i, j = np.arange(Q.shape[-2])[:, None] + offset, np.arange(K.shape[-2])
        seen = mask & ((j <= i) | (not causal)) & ((j > i - window) if window else True)
        copies = Q.shape[-3] // K.shape[-3] if grouped else 1
        s = 1 / math.sqrt(Q.shape[-1]) if scale is None else scale

        def formula(inputs: Any) -> Any:
            Q, K, V, *biases = inputs
            K, V = (anp.repeat(X, copies, -3) if grouped else X for X in (K, V))
            E = s * anp.matmul(Q, anp.swapaxes(K, -1, -2))
            E = softcap * anp.tanh(E / softcap) if softcap else E
            E = E + biases[0] if biases else E
            E = anp.where(seen, E, np.finfo(E.dtype).min)     # finite: a row that sees nothing has no ∞ − ∞
            P = anp.exp(E - anp.max(E, -1, keepdims=True)) * seen
            total = anp.sum(P, -1, keepdims=True)
            return anp.matmul(P / anp.where(total > 0, total, anp.ones_like(total)), V)

        vjp, Y = autograd.make_vjp(formula)((Q, K, V) if bias is None else (Q, K, V, bias))
        return Y, vjp

    yield Entry("autograd, the formula", "numpy", attention, lambda dY, vjp: vjp(dY), NUMPYS)


def numpy_ml_entries() -> Iterator[Entry]:
    """Yield numpy-ml's layer. The package needs collections.Hashable, which Python 3.10 removed."""

    def attention(Q: Any, K: Any, V: Any) -> Any:
        from numpy_ml.neural_nets.layers import DotProductAttention

        layer = DotProductAttention()
        return layer.forward(Q, K, V), layer

    entry = Entry("numpy-ml, DotProductAttention", "numpy", attention, lambda dY, layer: layer.backward(dY), DTYPES[:2])
    try:
        import numpy_ml  # noqa: F401 - to see whether it can be imported
    except ImportError as error:
        yield entry._replace(error=f"ImportError: {error}".split(" (")[0])
        collections.Hashable = collections.abc.Hashable  # type: ignore[attr-defined]  # mypy knows no removed name
        entry = entry._replace(name=f"{entry.name}, with collections.Hashable put back")
    yield entry


#: How the entries of a package are made, under the name by which it is imported.
PACKAGES = {
    "torch": torch_entries,
    "jax": jax_entries,
    "transformers": transformers_entries,
    "onnx": onnx_entries,
    "autograd": autograd_entries,
    "numpy_ml": numpy_ml_entries,
}


def rows(dtypes: Sequence[str], only: str = "") -> Iterator[str]:
    """Yield the rows of the table: npattn's own, and those of what is installed."""
    installed = [found for package, found in PACKAGES.items() if find_spec(package)]
    for entry in (entry for found in (numpy_entries, *installed) for entry in found() if only in entry.name):
        if entry.error:
            yield f"| {entry.name} | – | – | – | – | – | {entry.error} |"
        for dtype in () if entry.error else [dtype for dtype in dtypes if dtype in entry.dtypes]:
            yield line(entry, judge(entry.forward, entry.backward, framework=entry.framework, dtype=dtype))


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--only", default="", help="implementations whose name contains this")
    options = parser.parse_args(args)
    for row in (*HEAD, *rows(options.dtypes.split(","), options.only)):
        print(row, flush=True)
    for package in PACKAGES:
        if not find_spec(package):
            print(f"\n{package} is not installed: its rows are left out")


if __name__ == "__main__":
    main()
