"""What the field's attention shows on the cases of npattn.conformance.

    python benchmarks/conformance_field.py [--dtypes float32,bfloat16,float16] [--only NAMES]

One line for each implementation and dtype: how many cases pass, fail and are not offered, the largest error in units of
the bound (1 is the most that right arithmetic can reach), and every case that fails, with its message. What isn't
installed is left out, and said. All runs are on the CPU.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.attention.tiled import tiled_attention, tiled_attention_backward
from npattn.conformance import Report, judge


class Entry(NamedTuple):
    """An implementation: its name, its framework, and how to call it."""

    name: str
    framework: str
    forward: Callable[..., Any]
    backward: Callable[..., Any] | None = None


HEAD = (
    "| implementation | dtype | passed | failed | not offered | largest error, in bounds | of those that fail |",
    "|---|---|---:|---:|---:|---:|---|",
)


def line(entry: Entry, report: Report) -> str:
    """Return the row of the table."""
    counts, failed = report.counts, [outcome for outcome in report.outcomes if outcome.status == "failed"]
    worst = max((outcome.worst for outcome in report.outcomes if outcome.status == "passed"), default=0.0)
    names = {o.message: [other.case for other in failed if other.message == o.message] for o in failed}
    said = "; ".join(f"{' / '.join(cases)}: {message}" for message, cases in names.items())
    numbers = f"{counts['passed']} | {counts['failed']} | {counts['skipped']} | {worst:.2g}"
    return f"| {entry.name} | {report.dtype} | {numbers} | {said.replace('|', '/')} |"


def numpy_entries() -> Iterator[Entry]:
    """Yield npattn's own."""
    yield Entry("npattn, core", "numpy", scaled_dot_product_attention, scaled_dot_product_attention_backward)
    yield Entry("npattn, tiled", "numpy", tiled_attention, tiled_attention_backward)


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

    yield Entry("torch flex_attention, eager, outputs alone", "numpy", outputs_alone(four_axes(flex)))


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

    yield Entry("jax.nn.dot_product_attention", "jax", attention)


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


def entries() -> Iterator[Entry]:
    yield from numpy_entries()
    for package, found in (("torch", torch_entries), ("jax", jax_entries), ("transformers", transformers_entries)):
        if find_spec(package):
            yield from found()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", default="float32,bfloat16,float16")
    parser.add_argument("--only", default="", help="implementations whose name contains this")
    options = parser.parse_args()
    print(*HEAD, sep="\n")
    for entry in entries():
        for dtype in options.dtypes.split(","):
            if options.only in entry.name and (entry.framework != "numpy" or dtype == "float32"):
                report = judge(entry.forward, entry.backward, framework=entry.framework, dtype=dtype)
                print(line(entry, report), flush=True)
    for package in ("torch", "jax", "transformers"):
        if not find_spec(package):
            print(f"\n{package} is not installed: its rows are left out")


if __name__ == "__main__":
    main()
