"""Make modern.npz for test_modern_golden.py: versions 8 to 10, the layers of today's models, and rotary frequencies.

    pip install torch==2.13.0 transformers==5.24.0 numpy
    python tests/golden/make_modern.py

The numbers are PyTorch's: its own functions where it has them, and formulas that autograd differentiates. Frequencies
and `LlamaAttention` are those of transformers, made to compute in float64 throughout. Cases, kinds and sizes are those
of make_golden.py, with besides

- an option `theta` with `factor` is a RotaryFrequencies,
- versions 8 to 10 have the outputs `K` and `V`, the grown keys and values, with cotangents of their own,
- `rotary_frequencies.<case>` has options, and the outputs `theta` and `factor`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

torch.set_default_dtype(torch.float64)
torch.float32 = torch.float = torch.float64                   # transformers computes some steps in "float32"
torch.Tensor.float = torch.Tensor.double

from make_golden import Arrays, normal  # noqa: E402
from transformers import DynamicCache, LlamaConfig  # noqa: E402
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: E402
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding  # noqa: E402

B, H, H_K, N_Q, P, D_Q, D_V, D_X, D_Z = 2, 4, 2, 3, 2, 6, 5, 8, 1


def main() -> None:
    made = attention() | layers() | frequencies() | llama()
    np.savez_compressed(Path(__file__).with_name("modern.npz"), **made)


def record(case: str, function: Any, arguments: Arrays, **options: Any) -> Arrays:
    """Run a function of tensors forward and backward, with a random cotangent of each output."""
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arguments.items()}
    given = {name: torch.tensor(o) if isinstance(o, np.ndarray) else o for name, o in options.items()}
    found = function(**tensors, **given)
    outputs = found if isinstance(found, dict) else {"value": found}
    cotangents = {name: normal(output.shape) for name, output in outputs.items()}
    torch.autograd.backward(list(outputs.values()), [torch.tensor(dY) for dY in cotangents.values()])
    made = {f"option/{name}": np.asarray(option) for name, option in options.items()}
    made |= {f"argument/{name}": array for name, array in arguments.items()}
    made |= {f"output/{name}": output.detach().numpy() for name, output in outputs.items()}
    made |= {f"cotangent/{name}": dY for name, dY in cotangents.items()}
    made |= {f"gradient/{name}": tensor.grad.numpy() for name, tensor in tensors.items()}
    return {f"{case}/{key}": array for key, array in made.items()}


# ---- attention --------------------------------------------------------------------------------------------------


def attention() -> Arrays:
    mask = np.random.default_rng(1).random((B, 1, N_Q, P + N_Q)) < 0.7
    mask[..., 0] = True                                       # every query has a key: PyTorch returns NaN without one
    theta = np.array([1.1, 0.35, 0.02])
    made = record("v8_causal.plain", causal, arguments(H), n_heads=H)
    made |= record("v8_causal.past", causal, arguments(H, P), n_heads=H, scale=0.7)
    made |= record("v8_causal.past_mask", causal, arguments(H, P), n_heads=H, mask=mask)
    made |= record("v8_causal.top_left", causal, arguments(H, P), n_heads=H, offset=0)
    for pairing in ("neighbours", "halves"):
        turned = {"n_heads": H, "theta": theta, "factor": 1.3, "pairing": pairing}
        made |= record(f"v9_rotary.{pairing}_past", causal, arguments(H, P), **turned)
        turned |= {"theta": theta[:2], "positions": np.array([7, 3, 4])}
        made |= record(f"v9_rotary.{pairing}_part", causal, arguments(H), **turned)
        turned |= {"n_kv_heads": H_K}
        made |= record(f"v10_grouped_query.{pairing}_past", causal, arguments(H_K, P), **turned)
    rows = np.array([[2, 3, 4], [0, 1, 1]])
    made |= record("v10_grouped_query.masked", causal, arguments(H_K, P), **turned | {"positions": rows}, mask=mask)
    turned |= {"n_kv_heads": 1}
    made |= record("v10_grouped_query.multi_query", causal, arguments(1, P), **turned)
    return made


def arguments(n_kv: int, past: int = 0) -> Arrays:
    shapes: dict[str, tuple[int, ...]] = {
        "X": (B, N_Q, D_X), "W_Q": (D_X, H * D_Q), "W_K": (D_X, n_kv * D_Q), "W_V": (D_X, n_kv * D_V),
        "W_O": (H * D_V, D_Z),
    }  # fmt: skip
    if past:
        shapes |= {"K_past": (B, n_kv, past, D_Q), "V_past": (B, n_kv, past, D_V)}
    return {name: normal(shape) / (2 if len(shape) == 2 else 1) for name, shape in shapes.items()}


def causal(
    X: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, K_past: Tensor | None = None,
    V_past: Tensor | None = None, *, n_heads: int, n_kv_heads: int | None = None, theta: Tensor | None = None,
    factor: float = 1.0, positions: Tensor | None = None, pairing: str = "", scale: float | None = None,
    offset: int | None = None, mask: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Versions 8 to 10 by torch's own attention, with a mask and enable_gqa."""
    n_kv_heads = n_kv_heads or n_heads
    Q, K, V = (
        (X @ W).unflatten(-1, (n, -1)).transpose(1, 2)
        for W, n in ((W_Q, n_heads), (W_K, n_kv_heads), (W_V, n_kv_heads))
    )
    before = 0 if K_past is None else K_past.shape[-2]
    if theta is not None:
        at = torch.arange(before, before + X.shape[1]) if positions is None else positions
        Q, K = (rotary(Z, theta, factor, at if at.ndim == 1 else at[:, None], pairing) for Z in (Q, K))
    if K_past is not None and V_past is not None:
        K, V = torch.cat([K_past, K], -2), torch.cat([V_past, V], -2)
    order = torch.ones(X.shape[1], K.shape[-2], dtype=torch.bool).tril(before if offset is None else offset)
    seen = order if mask is None else order & mask
    Y = F.scaled_dot_product_attention(Q, K, V, attn_mask=seen, scale=scale, enable_gqa=True)
    return {"value": Y.transpose(1, 2).flatten(-2) @ W_O, "K": K, "V": V}


def rotary(
    X: Tensor, theta: Tensor, factor: float = 1.0, positions: Tensor | None = None, pairing: str = "neighbours"
) -> Tensor:
    """As Llama's own code multiplies by complex numbers, or as Hugging Face's code rotates halves."""
    R = 2 * len(theta)
    at = torch.arange(X.shape[-2]) if positions is None else positions
    angles = at[..., None] * theta
    turning, rest = X[..., :R], X[..., R:]
    if pairing == "neighbours":
        pairs = torch.view_as_complex(turning.unflatten(-1, (R // 2, 2)).contiguous())
        turned = torch.view_as_real(pairs * torch.polar(torch.full_like(angles, factor), angles)).flatten(-2)
    else:
        cos, sin = (torch.cat([f(angles)] * 2, -1) * factor for f in (torch.cos, torch.sin))
        halves = torch.cat([-turning[..., R // 2 :], turning[..., : R // 2]], -1)
        turned = turning * cos + halves * sin
    return torch.cat([turned, rest], -1)


def llama() -> Arrays:
    """LlamaAttention of transformers after a past: grouped queries, halves, frequencies of Llama 3."""
    scaling = {"rope_type": "llama3", "rope_theta": 20.0, "factor": 4.0, "original_max_position_embeddings": 24,
               "low_freq_factor": 1.0, "high_freq_factor": 2.0}  # fmt: skip
    config = LlamaConfig(hidden_size=D_X, num_attention_heads=H, num_key_value_heads=H_K, head_dim=D_Q,
                         max_position_embeddings=64, rope_parameters=scaling)  # fmt: skip
    config._attn_implementation = "eager"
    module, turn = LlamaAttention(config, layer_idx=0), LlamaRotaryEmbedding(config)
    names = {"W_Q": "q_proj", "W_K": "k_proj", "W_V": "v_proj", "W_O": "o_proj"}
    shapes = {"X": (B, N_Q, D_X), "W_Q": (D_X, H * D_Q), "W_K": (D_X, H_K * D_Q), "W_V": (D_X, H_K * D_Q)}
    shapes |= {"W_O": (H * D_Q, D_X), "K_past": (B, H_K, P, D_Q), "V_past": (B, H_K, P, D_Q)}

    def run(X: Tensor, K_past: Tensor, V_past: Tensor, **weights: Tensor) -> dict[str, Tensor]:
        cache = DynamicCache()
        cache.update(K_past, V_past, 0)
        order = torch.zeros(N_Q, P + N_Q).masked_fill(~torch.ones(N_Q, P + N_Q, dtype=torch.bool).tril(P), -math.inf)
        position_embeddings = turn(X, torch.arange(P, P + N_Q)[None])
        state = {f"{names[name]}.weight": W.T for name, W in weights.items()}
        given = {"position_embeddings": position_embeddings, "attention_mask": order[None, None]}
        Z, _ = torch.func.functional_call(module, state, (X,), given | {"cache": cache})
        return {"value": Z, "K": cache.layers[0].keys, "V": cache.layers[0].values}

    turns = 24 * 20.0 ** (-np.arange(0, D_Q, 2) / D_Q) / (2 * math.pi)
    assert (turns < 1).any() and (turns > 2).any() and ((turns > 1) & (turns < 2)).any()    # all three bands
    case, drawn = "v10_grouped_query.llama", {name: normal(shape) / 2 for name, shape in shapes.items()}
    options = {"n_heads": H, "n_kv_heads": H_K, "theta": turn.inv_freq.numpy(), "factor": turn.attention_scaling,
               "pairing": "halves"}  # fmt: skip
    return record(case, run, drawn) | {f"{case}/option/{name}": np.asarray(o) for name, o in options.items()}


# ---- layers -----------------------------------------------------------------------------------------------------


def layers() -> Arrays:
    X, wide = {"X": normal((B, 5, 7))}, {"X": normal((B, 5, 8)) * 2}
    rows = X | {"gamma": normal((7,))}
    theta = np.array([1.1, 0.35])
    made = record("rms_norm.plain", rms_norm, rows)
    made |= record("rms_norm.unit_offset", rms_norm, rows, eps=0.5, unit_offset=True)
    made |= record("silu.plain", F.silu, {"input": X["X"]}) | record("silu.tails", F.silu, {"input": tails()})
    made = {key.replace("input", "X"): array for key, array in made.items()}
    made |= record("soft_cap.plain", lambda X, cap: cap * torch.tanh(X / cap), X, cap=0.7)
    made |= record("rotary.neighbours", rotary, X, theta=theta, factor=1.3, pairing="neighbours")
    made |= record("rotary.halves", rotary, X, theta=theta, factor=0.8, pairing="halves")
    made |= record("rotary.positions", rotary, X, theta=theta, positions=np.array([[9, 0, 3, 3, 1]]), pairing="halves")
    made |= record("gelu.tanh", gelu, X, approximate="tanh") | record("gelu.tanh_tails", gelu, {"X": tails()},
                                                                      approximate="tanh")  # fmt: skip
    for gate in ("first", "second", "even"):
        made |= record(f"swiglu.{gate}", swiglu, wide, gate=gate)
        made |= record(f"geglu.{gate}", geglu, wide, gate=gate, approximate="tanh" if gate == "even" else "none")
    assert (np.abs(wide["X"]) > 1.5).any() and (wide["X"] < -1.5).any()     # beyond the limit on both sides
    made |= record("swiglu.gpt_oss", swiglu, wide, gate="even", limit=1.5, slope=1.702, unit_offset=True)
    return made


def tails() -> np.ndarray:
    return np.linspace(-12, 12, 97).reshape(1, 97)


def rms_norm(X: Tensor, gamma: Tensor, eps: float = 1e-6, unit_offset: bool = False) -> Tensor:
    return F.rms_norm(X, gamma.shape, 1 + gamma if unit_offset else gamma, eps)


def gelu(X: Tensor, approximate: str) -> Tensor:
    return F.gelu(X, approximate=approximate)


def parts(X: Tensor, gate: str) -> tuple[Tensor, Tensor]:
    if gate == "even":
        return X[..., ::2], X[..., 1::2]
    first, second = X.chunk(2, -1)
    return (first, second) if gate == "first" else (second, first)


def swiglu(
    X: Tensor, gate: str, limit: float | None = None, slope: float = 1.0, unit_offset: bool = False
) -> Tensor:
    """With a limit, as GptOssExperts computes it."""
    g, u = parts(X, gate)
    if limit is not None:
        g, u = g.clamp(min=None, max=limit), u.clamp(min=-limit, max=limit)
    return (u + unit_offset) * (g * torch.sigmoid(g * slope))


def geglu(X: Tensor, gate: str, approximate: str) -> Tensor:
    g, u = parts(X, gate)
    return F.gelu(g, approximate=approximate) * u


# ---- rotary frequencies -----------------------------------------------------------------------------------------

#: For each case the options of npattn, then the type, the length that is asked for, and the parameters of transformers.
SCALINGS: dict[str, tuple[dict[str, Any], str, int | None, dict[str, Any]]] = {
    "linear": ({"scaling": "linear", "s": 4.0}, "linear", None, {}),
    "dynamic": ({"scaling": "dynamic", "s": 4.0, "original_length": 2048, "length": 5000}, "dynamic", 5000, {}),
    "dynamic_short": ({"scaling": "dynamic", "s": 4.0, "original_length": 2048, "length": 50}, "dynamic", 50, {}),
    "yarn": ({"scaling": "yarn", "s": 4.0, "original_length": 2048}, "yarn", None, {}),
    "yarn_gpt_oss": (
        {"scaling": "yarn", "s": 32.0, "original_length": 4096, "base": 150000.0, "truncate": False},
        "yarn", None, {"truncate": False, "original_max_position_embeddings": 4096},
    ),
    "yarn_bounds": (
        {"scaling": "yarn", "s": 8.0, "original_length": 300, "turns": (0.5, 60.0), "factor": 1.25},
        "yarn", None, {"beta_fast": 60.0, "beta_slow": 0.5, "attention_factor": 1.25,
                       "original_max_position_embeddings": 300},
    ),
    "yarn_one_pair": (
        {"scaling": "yarn", "s": 8.0, "original_length": 40, "turns": (7.0, 7.5)},
        "yarn", None, {"beta_fast": 7.5, "beta_slow": 7.0, "original_max_position_embeddings": 40},
    ),
    "llama3": (
        {"scaling": "llama3", "s": 8.0, "original_length": 8192, "base": 500000.0},
        "llama3", None, {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    ),
}  # fmt: skip


def frequencies() -> Arrays:
    made: Arrays = {}
    for case, (options, kind, length, more) in SCALINGS.items():
        options = {"rotary_width": 32, "base": 10000.0} | options
        parameters = {"rope_type": kind, "rope_theta": options["base"], "factor": options["s"]}
        parameters |= {"original_max_position_embeddings": 2048} | more if kind in ("yarn", "llama3") else {}
        config = LlamaConfig(hidden_size=64, num_attention_heads=2, head_dim=32, max_position_embeddings=2048,
                             rope_parameters=parameters)  # fmt: skip
        theta, factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), length)
        plain = options["base"] ** (-np.arange(0, 32, 2) / 32)
        blended = (theta.numpy() < 0.999 * plain) & (theta.numpy() > 1.001 * plain / options["s"])
        assert case.startswith(("linear", "dynamic", "yarn_one")) or blended.sum() >= 1, case    # the ramp is reached
        given = {f"option/{name}": np.asarray(option) for name, option in options.items()}
        found = given | {"output/theta": theta.numpy(), "output/factor": np.asarray(factor)}
        made |= {f"rotary_frequencies.{case}/{key}": array for key, array in found.items()}
    return made


if __name__ == "__main__":
    main()
