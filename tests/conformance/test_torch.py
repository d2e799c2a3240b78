"""PyTorch's own operations pass in float32 and bfloat16, through its autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn.conformance import judge
from npattn.conformance.analysis import visible

torch: Any = pytest.importorskip("torch")


def attention(
    Q: Any, K: Any, V: Any, *, mask: Any = None, bias: Any = None, sinks: Any = None, scale: float | None = None,
    softcap: float | None = None, grouped: bool = False, causal: bool = False, offset: int = 0,
    window: int | None = None,
) -> Any:  # fmt: skip
    if grouped:
        K, V = (X.repeat_interleave(Q.shape[-3] // X.shape[-3], -3) for X in (K, V))
    E = Q @ K.mT * (Q.shape[-1] ** -0.5 if scale is None else scale)
    E = softcap * torch.tanh(E / softcap) if softcap else E
    E = E if bias is None else E + bias
    options = {"causal": causal, "offset": offset, "window": window, "mask": None if mask is None else mask.numpy()}
    seen = torch.tensor(np.ascontiguousarray(visible(tuple(E.shape), options)))
    E = E.masked_fill(~seen, -torch.inf)
    if sinks is not None:
        E = torch.cat([E, sinks[..., None, None].expand(*E.shape[:-1], 1)], -1)
        return torch.softmax(E, -1)[..., :-1] @ V
    dead = ~seen.any(-1, keepdim=True)
    return torch.softmax(E.masked_fill(dead, 0.0), -1).masked_fill(dead, 0.0) @ V


def sdpa(
    Q: Any, K: Any, V: Any, *, mask: Any = None, causal: bool = False, scale: Any = None, grouped: bool = False
) -> Any:
    if causal and mask is not None:
        raise NotImplementedError
    mask = None if mask is None else mask.expand(*Q.shape[:-1], K.shape[-2])
    return torch.nn.functional.scaled_dot_product_attention(
        Q, K, V, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def layer_norm(X: Any, gamma: Any, beta: Any = None, *, eps: float) -> Any:
    return torch.nn.functional.layer_norm(X, X.shape[-1:], gamma, beta, eps)


def rms_norm(X: Any, gamma: Any, *, eps: float) -> Any:
    return torch.nn.functional.rms_norm(X, X.shape[-1:], gamma, eps)


def cross_entropy(logits: Any, targets: Any, *, smoothing: float = 0.0, ignore_id: int = -100) -> Any:
    if (targets == ignore_id).all():
        raise NotImplementedError                             # torch gives 0/0 there
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=ignore_id, label_smoothing=smoothing
    )


def gelu(X: Any, approximate: str = "none") -> Any:
    return torch.nn.functional.gelu(X, approximate=approximate)


def swiglu(
    X: Any, gate: str = "first", limit: float | None = None, slope: float = 1.0, unit_offset: bool = False
) -> Any:
    g, u = (X[..., ::2], X[..., 1::2]) if gate == "even" else X.chunk(2, -1)
    g, u = (u, g) if gate == "second" else (g, u)
    g, u = (g.clamp(max=limit), u.clamp(-limit, limit)) if limit else (g, u)
    return (torch.nn.functional.silu(g) if slope == 1 else g * torch.sigmoid(slope * g)) * (u + unit_offset)


def embedding(ids: Any, W_E: Any) -> Any:
    return torch.nn.functional.embedding(ids, W_E)


def adam(p: Any, gradients: Any, *, lr: float, betas: Any, eps: float, weight_decay: float = 0.0) -> Any:
    p = torch.nn.Parameter(p.clone())
    optimiser = torch.optim.AdamW([p], lr, betas, eps, weight_decay)
    for p.grad in gradients:
        optimiser.step()
    return p


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("of", "function", "passed"), [
    ("attention", attention, 54), ("attention", sdpa, 30), ("layer_norm", layer_norm, 14), ("rms_norm", rms_norm, 11),
    ("cross_entropy", cross_entropy, 10), ("gelu", gelu, 13), ("swiglu", swiglu, 15), ("embedding", embedding, 10),
    ("adam", adam, 15),
])  # fmt: skip
def test_torch(of: str, function: Any, passed: int, dtype: str) -> None:
    report = judge(function, framework="torch", of=of, dtype=dtype)
    assert report.ok and report.counts["passed"] >= passed, str(report)
    for outcome in report.outcomes:
        if outcome.case == "64 keys":
            assert all(1 / 30 <= error <= 1 for error in outcome.tightness.values()), outcome


def test_what_torch_cannot_differentiate() -> None:
    first = {"framework": "torch", "only": ("plain",)}
    lost = judge(lambda Q, K, V: attention(Q, K.detach(), V), **first).outcomes[0]
    assert (lost.status, lost.message) == ("failed", "no gradient reaches K")
    array = judge(lambda Q, K, V: Q.detach().numpy(), **first).outcomes[0]
    assert array.message == "output: expected an array, got ndarray"
    wide = judge(lambda Q, K, V: attention(Q, K, V).double(), **first).outcomes[0]
    assert wide.message == "output: expected the dtype float32, got float64"
    pair = judge(lambda Q, K, V: (attention(Q, K, V), None), **first).outcomes[0]
    assert pair.status == "passed"
