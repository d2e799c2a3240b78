"""Make modern_v13_v14.npz for test_modern_golden.py: versions 13 and 14, and the layers of their models.

    pip install torch==2.13.0 transformers==5.24.0 numpy
    python tests/golden/make_modern_v13_v14.py

The numbers are PyTorch's: its own functions where it has them, and formulas that autograd differentiates. Those of
`DeepseekV3Attention` and of Qwen3-Next's rule and norm are from transformers, made to compute in float64 throughout.
Cases and kinds are those of make_modern.py. The outputs besides Y are what the cache hands to the next call, each with
a cotangent of its own.
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
from transformers import DeepseekV3Config  # noqa: E402
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (  # noqa: E402
    DeepseekV3Attention,
    DeepseekV3RotaryEmbedding,
)
from transformers.models.qwen3_next import modeling_qwen3_next as qwen  # noqa: E402

B, N, D_Q, D_V, D = 2, 5, 3, 4, 6
RNG = np.random.default_rng(20241206)


def main() -> None:
    made = latent() | delta() | layers()
    np.savez_compressed(Path(__file__).with_name("modern_v13_v14.npz"), **made)


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


# ---- latent attention -------------------------------------------------------------------------------------------

H, P, D_X, D_LQ, D_L, D_C, D_R, D_Z = 2, 3, 7, 6, 8, 5, 4, 9


def latent() -> Arrays:
    mask = RNG.random((B, 1, N, P + N)) < 0.7
    mask[..., 0] = True                                       # every query has a key: PyTorch returns NaN without one
    turned = {"n_heads": H, "theta": np.array([1.1, 0.35]), "factor": 1.3}
    made = record("v13_latent.plain", latent_attention, latent_arguments(D_X), **turned)
    everything = {name: normal(shape) for name, shape in {
        "gamma": (D_L,), "W_DQ": (D_X, D_LQ), "gamma_Q": (D_LQ,), "C_past": (B, P, D_L), "K_R_past": (B, P, D_R),
    }.items()}  # fmt: skip
    more = {"pairing": "halves", "scale": 0.4, "eps": 0.2, "positions": np.array([4, 1, 2, 8, 3]), "mask": mask}
    for name, absorbed in (("norms_past", False), ("absorbed", True)):
        arguments = latent_arguments(D_LQ) | everything
        made |= record(f"v13_latent.{name}", latent_attention, arguments, **turned | more, absorbed=absorbed)
    made |= record("v13_latent.part", latent_attention, latent_arguments(D_X), **turned | {"theta": np.array([0.7])})
    return made | deepseek()


def deepseek() -> Arrays:
    """DeepseekV3Attention with YaRN, whose mscale enters cos and sin, and mscale_all_dim the scale of the scores."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 1.3, "beta_fast": 32, "beta_slow": 1}
    yarn |= {"original_max_position_embeddings": 64, "rope_theta": 1e4}
    small, large = (0.1 * yarn[name] * math.log(4) + 1 for name in ("mscale", "mscale_all_dim"))
    options = {"n_heads": H, "factor": small / large, "scale": large**2 / math.sqrt(D_C + D_R)}
    made = {}
    for name, rank, interleaved in (("deepseek", None, True), ("deepseek_halves", D_LQ, False)):
        config = DeepseekV3Config(
            hidden_size=D_X, num_attention_heads=H, num_key_value_heads=H, q_lora_rank=rank, kv_lora_rank=D_L,
            qk_rope_head_dim=D_R, qk_nope_head_dim=D_C, v_head_dim=D_V, rope_interleave=interleaved,
            max_position_embeddings=256, rope_parameters=yarn,
        )  # fmt: skip
        config._attn_implementation = "eager"
        rotary = DeepseekV3RotaryEmbedding(config)
        arguments = latent_arguments(rank or D_X, D_X) | {"gamma": normal((D_L,))}
        arguments |= {"W_DQ": normal((D_X, D_LQ)), "gamma_Q": normal((D_LQ,))} if rank else {}
        turned = {"theta": rotary.inv_freq.numpy(), "pairing": "neighbours" if interleaved else "halves"}

        def attend(X: Tensor, *, config: Any = config, rotary: Any = rotary, **given: Any) -> Tensor:
            order = torch.full((N, N), -torch.inf).triu(1)[None, None]
            positions = rotary(X, torch.arange(N)[None])
            weights = deepseek_weights(**{n: t for n, t in given.items() if isinstance(t, Tensor) and n != "theta"})
            module = DeepseekV3Attention(config, 0)
            return torch.func.functional_call(module, weights, (X, positions, order), strict=True)[0]

        made |= record(f"v13_latent.{name}", attend, arguments, **options | turned)
    return made


def deepseek_weights(
    W_Q: Tensor, W_QR: Tensor, W_DKV: Tensor, W_KR: Tensor, W_UK: Tensor, W_UV: Tensor, W_O: Tensor, gamma: Tensor,
    W_DQ: Tensor | None = None, gamma_Q: Tensor | None = None,
) -> dict[str, Tensor]:
    """npattn's weights under the names and in the layouts of DeepseekV3Attention."""
    def in_heads(*parts: Tensor) -> Tensor:
        return torch.cat([W.reshape(len(W), H, -1) for W in parts], -1).flatten(1).T

    queries = in_heads(W_Q, W_QR)
    of_queries = {"q_proj.weight": queries}
    if W_DQ is not None and gamma_Q is not None:
        of_queries = {"q_a_proj.weight": W_DQ.T, "q_a_layernorm.weight": gamma_Q, "q_b_proj.weight": queries}
    return of_queries | {
        "kv_a_proj_with_mqa.weight": torch.cat([W_DKV, W_KR], 1).T, "kv_a_layernorm.weight": gamma,
        "kv_b_proj.weight": in_heads(W_UK, W_UV), "o_proj.weight": W_O.T,
    }  # fmt: skip


def latent_arguments(D: int, D_Z: int = D_Z) -> Arrays:
    shapes = {
        "X": (B, N, D_X), "W_Q": (D, H * D_C), "W_QR": (D, H * D_R), "W_DKV": (D_X, D_L), "W_KR": (D_X, D_R),
        "W_UK": (D_L, H * D_C), "W_UV": (D_L, H * D_V), "W_O": (H * D_V, D_Z),
    }  # fmt: skip
    return {name: normal(shape) / (shape[0] ** 0.5 if len(shape) == 2 else 1) for name, shape in shapes.items()}


def latent_attention(
    X: Tensor, W_Q: Tensor, W_QR: Tensor, W_DKV: Tensor, W_KR: Tensor, W_UK: Tensor, W_UV: Tensor, W_O: Tensor,
    gamma: Tensor | None = None, W_DQ: Tensor | None = None, gamma_Q: Tensor | None = None,
    C_past: Tensor | None = None, K_R_past: Tensor | None = None, *, n_heads: int, theta: Tensor, factor: float,
    positions: Tensor | None = None, pairing: str = "neighbours", scale: float | None = None,
    mask: Tensor | None = None, eps: float = 1e-6, absorbed: bool = False,
) -> dict[str, Tensor]:
    """One head at a time, plain; `absorbed` is npattn's alone."""
    C_Q, C = X if W_DQ is None else X @ W_DQ, X @ W_DKV
    if gamma_Q is not None:
        C_Q = F.rms_norm(C_Q, (D_LQ,), gamma_Q, eps)
    if gamma is not None:
        C = F.rms_norm(C, (D_L,), gamma, eps)
    positions = torch.arange(N) if positions is None else positions
    K_R = turn(X @ W_KR, positions, theta, factor, pairing)
    if C_past is not None and K_R_past is not None:
        C, K_R = torch.cat([C_past, C], 1), torch.cat([K_R_past, K_R], 1)
    seen = torch.arange(len(C[0])) <= torch.arange(N)[:, None] + len(C[0]) - N
    if mask is not None:
        seen = seen & mask[:, 0]
    heads = []
    for q, q_r, uk, uv in zip(*(W.chunk(n_heads, 1) for W in (W_Q, W_QR, W_UK, W_UV)), strict=True):
        Q_R = turn(C_Q @ q_r, positions, theta, factor, pairing)
        E = (C_Q @ q @ (C @ uk).mT + Q_R @ K_R.mT) * ((D_C + D_R) ** -0.5 if scale is None else scale)
        heads.append(E.masked_fill(~seen, -torch.inf).softmax(-1) @ (C @ uv))
    return {"value": torch.cat(heads, -1) @ W_O, "C": C, "K_R": K_R}


def turn(X: Tensor, positions: Tensor, theta: Tensor, factor: float, pairing: str) -> Tensor:
    """Multiply the pairs, as complex numbers, by factor · exp(i m θ); the other columns stay."""
    R = 2 * len(theta)
    a, b = (X[..., 0:R:2], X[..., 1:R:2]) if pairing == "neighbours" else X[..., :R].chunk(2, -1)
    turned = torch.complex(a, b) * factor * torch.exp(1j * positions[:, None] * theta)
    pairs = (turned.real, turned.imag)
    turned = torch.stack(pairs, -1).flatten(-2) if pairing == "neighbours" else torch.cat(pairs, -1)
    return torch.cat([turned, X[..., R:]], -1)


# ---- the gated delta rule ---------------------------------------------------------------------------------------


def delta() -> Arrays:
    made = {}
    for name, heads, decay, options in (
        ("plain", (2, 2, 2), 1.0, {}),
        ("in_chunks", (2, 2, 2), 1.0, {"chunk": 2}),
        ("fewer_keys", (1, 2, 4), 1.0, {"chunk": 3, "scale": 0.7}),
        ("more_queries", (4, 1, 2), 1.0, {"normalise": False}),
        ("more_queries_in_chunks", (4, 1, 2), 1.0, {"normalise": False, "chunk": 2}),
        ("strong_decay", (2, 2, 2), 300.0, {"chunk": 5}),
    ):
        arguments = delta_arguments(*heads, decay, has_state=name != "plain")
        made |= record(f"v14_gated_delta.{name}", gated_delta, arguments, **options)
    for name, options in (("recurrent", {}), ("chunk", {"chunk": 4})):
        arguments = delta_arguments(2, 2, 2, 1.0, has_state=True)
        made |= record(f"v14_gated_delta.qwen3_next_{name}", qwen_rule(name), arguments, **options)
    return made


def qwen_rule(name: str) -> Any:
    """The rule of Qwen3-Next: time before heads, and the transposed state."""
    def run(Q: Tensor, K: Tensor, V: Tensor, g: Tensor, beta: Tensor, S_0: Tensor, chunk: int = 0) -> dict[str, Tensor]:
        rows = (X.transpose(1, 2) for X in (Q, K, V, g, beta))
        rule = getattr(qwen, f"torch_{name}_gated_delta_rule")
        Y, S = rule(*rows, initial_state=S_0.mT, output_final_state=True, use_qk_l2norm_in_kernel=True)
        return {"value": Y.transpose(1, 2), "S": S.mT}

    return run


def delta_arguments(H_Q: int, H_K: int, H: int, decay: float, has_state: bool) -> Arrays:
    """Keys shorter than 1, and every second step with a decay `decay` times as strong as the others."""
    g = -np.abs(normal((B, H, N))) * np.where(np.arange(N) % 2, decay, 1)
    made = {"Q": normal((B, H_Q, N, D_Q)), "K": normal((B, H_K, N, D_Q)) / 2, "V": normal((B, H, N, D_V)), "g": g}
    made["beta"] = RNG.uniform(0.2, 1, (B, H, N))
    return made | ({"S_0": normal((B, H, D_V, D_Q))} if has_state else {})


def gated_delta(
    Q: Tensor, K: Tensor, V: Tensor, g: Tensor, beta: Tensor, S_0: Tensor | None = None, scale: float | None = None,
    normalise: bool = True, chunk: int | None = None,
) -> dict[str, Tensor]:
    """One head, one step, one formula at a time; `chunk` is npattn's alone."""
    scale = D_Q**-0.5 if scale is None else scale
    if normalise:
        Q, K = (X / (X.square().sum(-1, keepdim=True) + 1e-6).sqrt() for X in (Q, K))
    H, H_Q, H_K = V.shape[1], Q.shape[1], K.shape[1]
    rows, states = [], []
    for h in range(H):
        k, S = K[:, h * H_K // H], torch.zeros(B, D_V, D_Q) if S_0 is None else S_0[:, h]
        queries = [Q[:, i] for i in range(H_Q) if i * H // H_Q == h] if H_Q > H else [Q[:, h * H_Q // H]]
        found = []
        for t in range(N):
            S = g[:, h, t].exp()[:, None, None] * S
            error = V[:, h, t] - torch.einsum("bvk,bk->bv", S, k[:, t])
            S = S + beta[:, h, t, None, None] * error[:, :, None] * k[:, t, None, :]
            found.append([scale * torch.einsum("bvk,bk->bv", S, q[:, t]) for q in queries])
        rows += [torch.stack(head, 1) for head in zip(*found, strict=True)]
        states.append(S)
    return {"value": torch.stack(rows, 1), "S": torch.stack(states, 1)}


# ---- layers -----------------------------------------------------------------------------------------------------


def layers() -> Arrays:
    rows, W, past = {"X": normal((B, N, D))}, {"W": normal((3, D))}, {"X_past": normal((B, 2, D))}
    made = record("causal_convolution.plain", convolution, rows | W)
    made |= record("causal_convolution.past", convolution, rows | W | past)
    made |= record("causal_convolution.short", convolution, {"X": normal((B, 1, D))} | W | past)
    gates = {"Z": normal((B, N, D)), "gamma": normal((D,))}
    made |= record("gated_rms_norm.plain", gated_norm, rows | gates, eps=0.3)
    made |= record("gated_rms_norm.qwen3_next", qwen_norm, rows | gates, eps=0.1)
    made |= record("l2_norm.plain", lambda X, eps: X / (X.square().sum(-1, keepdim=True) + eps).sqrt(), rows, eps=0.3)
    return made


def convolution(X: Tensor, W: Tensor, X_past: Tensor | None = None) -> dict[str, Tensor]:
    past = torch.zeros(B, len(W) - 1, D) if X_past is None else X_past
    rows = torch.cat([past, X], 1)
    Y = F.conv1d(rows.mT, W.T[:, None, :], groups=D).mT
    return {"value": Y, "X_last": rows[:, len(rows[0]) - len(W) + 1 :]}


def gated_norm(X: Tensor, Z: Tensor, gamma: Tensor, eps: float) -> Tensor:
    return F.rms_norm(X, (D,), gamma, eps) * F.silu(Z)


def qwen_norm(X: Tensor, Z: Tensor, gamma: Tensor, eps: float) -> Tensor:
    module = qwen.Qwen3NextRMSNormGated(D, eps=eps)
    return torch.func.functional_call(module, {"weight": gamma}, (X, Z))


if __name__ == "__main__":
    main()
