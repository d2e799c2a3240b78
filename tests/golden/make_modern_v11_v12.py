"""Make modern_v11_v12.npz for test_modern_golden.py, and core_options.npz for test_attention_options.py.

    pip install torch==2.13.0 transformers==5.24.0 numpy
    python tests/golden/make_modern_v11_v12.py

The first has versions 11 and 12, from a formula that autograd differentiates, and from the attention modules of five
models in transformers, made to compute in float64 throughout. The second has the options of the common core from such
a formula. Cases and kinds are those of make_modern.py. Gemma 3 stores γ − 1: its module is given γ − 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import make_modern as modern  # computes in float64 throughout
import numpy as np
import torch
import torch.nn.functional as F
from make_golden import Arrays, normal
from make_modern import D_Q, D_V, D_X, H_K, B, H, P, arguments, record, rotary
from torch import Tensor
from transformers import DynamicCache, Gemma2Config, Gemma3TextConfig, GptOssConfig, Olmo2Config, Qwen3Config
from transformers.models.gemma2.modeling_gemma2 import Gemma2Attention
from transformers.models.gemma3.modeling_gemma3 import Gemma3Attention
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention, GptOssRotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.olmo2.modeling_olmo2 import Olmo2Attention
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

N_Q, WINDOW = modern.N_Q, 2
SINKS = np.array([-1.0, 0.3, 2.0, -np.inf])                   # of different size; the last head has none


def main() -> None:
    folder = Path(__file__).parent
    np.savez_compressed(folder / "modern_v11_v12.npz", **version_11() | version_12() | models())
    np.savez_compressed(folder / "core_options.npz", **core())


def attend(
    Q: Tensor, K: Tensor, V: Tensor, *, scale: float, order: Tensor, bias: Tensor | None = None,
    sinks: Tensor | None = None, softcap: float | None = None,
) -> Tensor:  # fmt: skip
    """Attention (B, H, N_Q, D_Q) on (B, H_K, N_X, D_Q), with exp and sum written out."""
    K, V = (Z.repeat_interleave(Q.shape[1] // Z.shape[1], 1) for Z in (K, V))
    E = Q @ K.transpose(-1, -2) * scale
    if softcap is not None:
        assert (E.abs() > softcap).any()                      # the cap is reached
        E = softcap * torch.tanh(E / softcap)
    E = E if bias is None else E + bias
    weights = torch.where(order, E.exp(), 0)
    total = weights.sum(-1, keepdim=True)
    return weights / (total if sinks is None else total + sinks.exp()[:, None, None]) @ V


def order_of(N: int, before: int, window: int | None, mask: Tensor | None) -> Tensor:
    at = torch.arange(before, before + N)[:, None] - torch.arange(before + N)               # how far back a key is
    order = (at >= 0) & (at < (window or math.inf))
    return order if mask is None else order & mask


def windowed(
    X: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, K_past: Tensor | None = None,
    V_past: Tensor | None = None, sinks: Tensor | None = None, gamma_Q: Tensor | None = None,
    gamma_K: Tensor | None = None, *, n_heads: int, n_kv_heads: int, theta: Tensor, factor: float = 1.0,
    pairing: str = "neighbours", scale: float = D_Q**-0.5, window: int | None = None, mask: Tensor | None = None,
    norm: str = "", eps: float = 1e-6, softcap: float | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Versions 11 and 12."""
    before = 0 if K_past is None else K_past.shape[-2]
    at = torch.arange(before, before + X.shape[1])

    def heads(W: Tensor, n: int, gamma: Tensor | None = None) -> Tensor:
        Z = X @ W
        if gamma is not None and norm == "wide_rms":
            Z = F.rms_norm(Z, gamma.shape, gamma, eps)
        Z = Z.unflatten(-1, (n, -1)).transpose(1, 2)
        if gamma is not None and norm == "rms":
            Z = F.rms_norm(Z, gamma.shape, gamma, eps)
        return F.layer_norm(Z, gamma.shape, gamma, None, eps) if gamma is not None and norm == "layer" else Z

    Q, K, V = heads(W_Q, n_heads, gamma_Q), heads(W_K, n_kv_heads, gamma_K), heads(W_V, n_kv_heads)
    Q, K = (rotary(Z, theta, factor, at, pairing) for Z in (Q, K))
    if K_past is not None and V_past is not None:
        K, V = torch.cat([K_past, K], -2), torch.cat([V_past, V], -2)
    order = order_of(X.shape[1], before, window, mask)
    Y = attend(Q, K, V, scale=scale, order=order, sinks=sinks, softcap=softcap)
    return {"value": Y.transpose(1, 2).flatten(-2) @ W_O, "K": K, "V": V}


def version_11() -> Arrays:
    mask = np.random.default_rng(1).random((B, 1, N_Q, P + N_Q)) < 0.7
    mask[..., range(N_Q), range(P, P + N_Q)] = True           # every query has a key in its window
    turned = {"n_heads": H, "n_kv_heads": H_K, "theta": np.array([1.1, 0.35]), "factor": 1.3}
    sinks = {"sinks": SINKS}
    made = record("v11_sliding_window.window", windowed, arguments(H_K), **turned, window=WINDOW)
    made |= record("v11_sliding_window.sinks", windowed, arguments(H_K) | sinks, **turned, pairing="halves")
    made |= record("v11_sliding_window.past", windowed, arguments(H_K, P) | sinks, **turned, window=3, scale=0.7)
    made |= record("v11_sliding_window.past_mask", windowed, arguments(1, P) | sinks,
                   **turned | {"n_kv_heads": 1}, window=WINDOW, mask=mask)  # fmt: skip
    return made


def version_12() -> Arrays:
    turned = {"n_heads": H, "n_kv_heads": H_K, "theta": np.array([1.1, 0.35, 0.02]), "pairing": "halves"}
    made = record("v12_normalised.cap", windowed, arguments(H_K, P) | {"sinks": SINKS}, **turned, softcap=0.4)
    for norm, sizes in {"rms": (1, 1), "wide_rms": (H, H_K), "layer": (1, 1)}.items():
        gammas = {f"gamma_{w}": normal((n * D_Q,)) for w, n in zip("QK", sizes, strict=True)}
        made |= record(f"v12_normalised.{norm}", windowed, arguments(H_K) | gammas, **turned, norm=norm, eps=0.2)
        everything = arguments(H_K, P) | {"sinks": SINKS} | gammas
        made |= record(f"v12_normalised.{norm}_cap_past", windowed, everything, **turned, norm=norm, softcap=0.7,
                       window=3, scale=0.9)  # fmt: skip
    return made


# ---- models of transformers -------------------------------------------------------------------------------------


def models() -> Arrays:
    sizes = {"hidden_size": D_X, "num_attention_heads": H, "num_key_value_heads": H_K, "head_dim": D_Q,
             "attention_bias": False, "max_position_embeddings": 96, "sliding_window": WINDOW,
             "layer_types": ["sliding_attention"], "num_hidden_layers": 1}  # fmt: skip
    plain = {"rope_type": "default", "rope_theta": 20.0}
    yarn = {"rope_type": "yarn", "rope_theta": 20.0, "factor": 4.0, "original_max_position_embeddings": 24,
            "beta_fast": 2.0, "beta_slow": 1.0, "truncate": False}  # fmt: skip
    gemma = {"query_pre_attn_scalar": 3}
    narrow = {"gamma_Q": normal((D_Q,)), "gamma_K": normal((D_Q,))}
    wide = {"gamma_Q": normal((H * D_Q,)), "gamma_K": normal((H_K * D_Q,))}
    scaled, full = {"scale": 3.0**-0.5}, {"layer_types": ["full_attention"]}
    made = model("v11_sliding_window.gpt_oss", GptOssAttention, GptOssConfig(**sizes, rope_parameters=yarn),
                 {"sinks": SINKS}, window=WINDOW)  # fmt: skip
    made |= model("v12_normalised.gemma2", Gemma2Attention,
                  Gemma2Config(**sizes, **gemma, attn_logit_softcapping=0.8, rope_parameters=plain), {},
                  window=WINDOW, softcap=0.8, **scaled)  # fmt: skip
    by_type = {"sliding_attention": plain, "full_attention": plain}
    made |= model("v12_normalised.gemma3", Gemma3Attention,
                  Gemma3TextConfig(**sizes, **gemma, rope_parameters=by_type, rms_norm_eps=0.1), narrow,
                  window=WINDOW, norm="rms", eps=0.1, **scaled)  # fmt: skip
    made |= model("v12_normalised.qwen3", Qwen3Attention,
                  Qwen3Config(**sizes | full, rope_parameters=plain, rms_norm_eps=0.1), narrow, norm="rms",
                  eps=0.1)  # fmt: skip
    made |= model("v12_normalised.olmo2", Olmo2Attention,
                  Olmo2Config(**{k: v for k, v in sizes.items() if k not in ("layer_types", "sliding_window")},
                              rope_parameters=plain, rms_norm_eps=0.1), wide, norm="wide_rms", eps=0.1)  # fmt: skip
    return made


def model(case: str, kind: Any, config: Any, more: Arrays, **options: Any) -> Arrays:
    """The attention module of a model after a past."""
    config._attn_implementation = "eager"
    module = kind(config, layer_idx=0)
    gpt_oss = kind is GptOssAttention
    flat = config.__class__.from_dict(config.to_dict())
    if kind is Gemma3Attention:
        flat.rope_parameters = flat.rope_parameters["sliding_attention"]
    turn = (GptOssRotaryEmbedding if gpt_oss else LlamaRotaryEmbedding)(flat)
    names = {"W_Q": "q_proj.weight", "W_K": "k_proj.weight", "W_V": "v_proj.weight", "W_O": "o_proj.weight",
             "gamma_Q": "q_norm.weight", "gamma_K": "k_norm.weight", "sinks": "sinks"}  # fmt: skip
    shapes = {"X": (B, N_Q, D_X), "W_Q": (D_X, H * D_Q), "W_K": (D_X, H_K * D_Q), "W_V": (D_X, H_K * D_Q),
              "W_O": (H * D_Q, D_X), "K_past": (B, H_K, P, D_Q), "V_past": (B, H_K, P, D_Q)}  # fmt: skip

    def run(X: Tensor, K_past: Tensor, V_past: Tensor, **weights: Tensor) -> dict[str, Tensor]:
        cache = DynamicCache()
        cache.update(K_past, V_past, 0)
        seen = order_of(N_Q, P, options.get("window"), None)
        hidden = torch.zeros(N_Q, P + N_Q).masked_fill(~seen, -math.inf)[None, None]
        given = {"position_embeddings": turn(X, torch.arange(P, P + N_Q)[None]), "attention_mask": hidden}
        minus = 1 if kind is Gemma3Attention else 0           # it stores γ − 1
        state = {names[n]: W - minus if n.startswith("gamma") else W.T if W.ndim == 2 else W
                 for n, W in weights.items()}  # fmt: skip
        Z, _ = torch.func.functional_call(module, state, (X,), given | {"cache": cache})
        return {"value": Z, "K": cache.layers[0].keys, "V": cache.layers[0].values}

    drawn = {name: normal(shape) / 2 for name, shape in shapes.items()} | more
    options |= {"n_heads": H, "n_kv_heads": H_K, "theta": turn.inv_freq.numpy(), "factor": turn.attention_scaling,
                "pairing": "halves"}  # fmt: skip
    return record(case, run, drawn) | {f"{case}/option/{name}": np.asarray(o) for name, o in options.items()}


# ---- the core ---------------------------------------------------------------------------------------------------


def core() -> Arrays:
    N_X, order = 5, {"causal": True, "offset": 2}
    QKV = {"Q": normal((B, H, N_Q, D_Q)), "K": normal((B, H, N_X, D_Q)), "V": normal((B, H, N_X, D_V))}
    few = QKV | {"K": normal((B, H_K, N_X, D_Q)), "V": normal((B, H_K, N_X, D_V))}
    bias, sinks = {"bias": normal((H, 1, N_X))}, {"sinks": SINKS}
    made = record("window", options_of_the_core, QKV, **order, window=2)
    made |= record("sinks", options_of_the_core, QKV | sinks)
    made |= record("softcap", options_of_the_core, QKV | bias, softcap=0.7, scale=0.6)
    made |= record("grouped", options_of_the_core, few, grouped=True)
    mask = np.random.default_rng(2).random((B, 1, N_Q, N_X)) < 0.7
    mask[..., range(N_Q), range(2, 2 + N_Q)] = True
    made |= record("all", options_of_the_core, few | bias | sinks, **order, window=3, softcap=0.7, scale=0.6,
                   grouped=True, mask=mask)  # fmt: skip
    return made


def options_of_the_core(
    Q: Tensor, K: Tensor, V: Tensor, bias: Tensor | None = None, sinks: Tensor | None = None, *,
    causal: bool = False, offset: int = 0, window: int | None = None, softcap: float | None = None,
    grouped: bool = False, mask: Tensor | None = None, scale: float = D_Q**-0.5,
) -> Tensor:  # fmt: skip
    order = torch.ones(N_Q, K.shape[-2], dtype=torch.bool)
    if causal:
        order = order_of(N_Q, offset, window, None)
    order = order if mask is None else order & mask
    return attend(Q, K, V, scale=scale, order=order, bias=bias, sinks=sinks, softcap=softcap)


if __name__ == "__main__":
    main()
