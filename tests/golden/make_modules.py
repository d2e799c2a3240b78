"""Make modules.npz for test_modules.py: attention modules of transformers, with what a model has around them.

    pip install torch==2.13.0 transformers==5.24.0 numpy
    python tests/golden/make_modules.py

make_modern*.py have the other models. Here are

- `v11_sliding_window.mistral`: MistralAttention after a past, with the mask that transformers makes of its window and
  of pads on the left,
- `v12_normalised.persimmon`: PersimmonAttention after a past; layer norm of every head, turned only in part, and its
  biases are zero,
- `v13_latent.deepseek_v2`: DeepseekV2Attention after a past; it turns pairs as complex numbers and keeps latents,
- `gated_attention.qwen3_next`: Qwen3NextAttention after a past, which is version 12 with a gate on its output, turned
  only in part; it stores γ − 1 and is given γ − 1,
- `gated_delta_net.qwen3_next`: Qwen3NextGatedDeltaNet, which is version 14 with projections, convolution, gates and
  norm, over more steps than one of its chunks of 64.

Cases and kinds are those of make_modern.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import make_modern as modern  # computes in float64 throughout
import make_modern_v13_v14 as latent
import numpy as np
import torch
from make_golden import Arrays, normal
from make_modern import D_Q, D_X, H_K, B, H, P, record
from make_modern_v11_v12 import order_of
from torch import Tensor
from transformers import DeepseekV2Config, DynamicCache, MistralConfig, PersimmonConfig, Qwen3NextConfig
from transformers.masking_utils import create_sliding_window_causal_mask
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention, DeepseekV2RotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralAttention, MistralRotaryEmbedding
from transformers.models.persimmon.modeling_persimmon import PersimmonAttention, PersimmonRotaryEmbedding
from transformers.models.qwen3_next import modeling_qwen3_next as qwen

N_Q = modern.N_Q


def main() -> None:
    made = mistral() | persimmon() | deepseek_v2() | qwen3_next_attention() | qwen3_next_delta_net()
    np.savez_compressed(Path(__file__).with_name("modules.npz"), **made)


def mistral() -> Arrays:
    window = 3
    config = MistralConfig(hidden_size=D_X, num_attention_heads=H, num_key_value_heads=H_K, head_dim=D_Q,
                           sliding_window=window, max_position_embeddings=64,
                           rope_parameters={"rope_type": "default", "rope_theta": 20.0})  # fmt: skip
    config._attn_implementation = "eager"
    module, turn = MistralAttention(config, layer_idx=0), MistralRotaryEmbedding(config)
    real = torch.ones(B, P + N_Q, dtype=torch.bool)
    real[1, :1] = False                                       # every query still sees a key

    def run(X: Tensor, K_past: Tensor, V_past: Tensor, **weights: Tensor) -> dict[str, Tensor]:
        cache = DynamicCache()
        cache.update(K_past, V_past, 0)
        at = torch.arange(P, P + N_Q)[None]
        mask = create_sliding_window_causal_mask(config, X, real, cache, at.expand(B, -1))
        assert ((mask == 0) == (order_of(N_Q, P, window, None) & real[:, None, None])).all()
        state = {f"{name[-1].lower()}_proj.weight": W.T for name, W in weights.items()}
        given = {"position_embeddings": turn(X, at), "attention_mask": mask, "cache": cache}
        Z, _ = torch.func.functional_call(module, state, (X,), given, strict=True)
        return {"value": Z, "K": cache.layers[0].keys, "V": cache.layers[0].values}

    options = {"n_heads": H, "n_kv_heads": H_K, "window": window, "theta": turn.inv_freq.numpy(), "pairing": "halves",
               "mask": real[:, None, None].numpy()}  # fmt: skip
    case, arguments = "v11_sliding_window.mistral", modern.arguments(H_K, P)
    arguments |= {"W_V": normal((D_X, H_K * D_Q)) / 2, "W_O": normal((H * D_Q, D_X)) / 2,
                  "V_past": normal((B, H_K, P, D_Q))}  # fmt: skip
    return with_options(case, record(case, run, arguments), options)


def persimmon() -> Arrays:
    H, D, rope = 2, 8, {"rope_type": "default", "rope_theta": 20.0, "partial_rotary_factor": 0.5}
    config = PersimmonConfig(hidden_size=H * D, num_attention_heads=H, qk_layernorm=True, layer_norm_eps=0.1,
                             max_position_embeddings=64, rope_parameters=rope)  # fmt: skip
    config._attn_implementation = "eager"
    module, turn = PersimmonAttention(config, layer_idx=0), PersimmonRotaryEmbedding(config)
    assert len(turn.inv_freq) == 2
    square, past, zeros = (H * D, H * D), (B, H, P, D), torch.zeros(H * D)
    shapes = {"X": (B, N_Q, H * D), "W_Q": square, "W_K": square, "W_V": square, "W_O": square, "K_past": past,
              "V_past": past, "gamma_Q": (D,), "gamma_K": (D,)}  # fmt: skip

    def run(
        X: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, K_past: Tensor, V_past: Tensor,
        gamma_Q: Tensor, gamma_K: Tensor,
    ) -> dict[str, Tensor]:  # fmt: skip
        cache = DynamicCache()
        cache.update(K_past, V_past, 0)
        state = {
            "query_key_value.weight": side_by_side(H, W_Q, W_K, W_V), "query_key_value.bias": torch.zeros(3 * H * D),
            "dense.weight": W_O.T, "dense.bias": zeros, "q_layernorm.weight": gamma_Q, "q_layernorm.bias": zeros[:D],
            "k_layernorm.weight": gamma_K, "k_layernorm.bias": zeros[:D],
        }  # fmt: skip
        given = {"position_embeddings": turn(X, torch.arange(P, P + N_Q)[None]), "attention_mask": hidden(N_Q, P)}
        Z, _ = torch.func.functional_call(module, state, (X,), given | {"cache": cache}, strict=True)
        return {"value": Z, "K": cache.layers[0].keys, "V": cache.layers[0].values}

    options = {"n_heads": H, "n_kv_heads": H, "norm": "layer", "eps": 0.1, "theta": turn.inv_freq.numpy(),
               "pairing": "halves"}  # fmt: skip
    case = "v12_normalised.persimmon"
    return with_options(case, record(case, run, {n: normal(shape) / 2 for n, shape in shapes.items()}), options)


def hidden(N: int, P: int) -> Tensor:
    """Causal order after a past, as transformers adds it to the scores."""
    return torch.zeros(N, P + N).masked_fill(~order_of(N, P, None, None), -math.inf)[None, None]


def deepseek_v2() -> Arrays:
    """With YaRN and, as the released weights have it, the same mscale twice: cos and sin keep their length."""
    H, N, P, D_R, D_L, D_LQ = (getattr(latent, name) for name in ("H", "N", "P", "D_R", "D_L", "D_LQ"))
    D_X, D_C = latent.D_X, latent.D_C = 8, 6                  # complex numbers need even widths
    yarn = {"rope_type": "yarn", "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 0.707, "beta_fast": 32,
            "beta_slow": 1, "original_max_position_embeddings": 64, "rope_theta": 1e4}  # fmt: skip
    config = DeepseekV2Config(
        hidden_size=D_X, num_attention_heads=H, num_key_value_heads=H, q_lora_rank=D_LQ, kv_lora_rank=D_L,
        qk_rope_head_dim=D_R, qk_nope_head_dim=D_C, v_head_dim=latent.D_V, max_position_embeddings=2560,
        rope_parameters=yarn,
    )  # fmt: skip
    config._attn_implementation = "eager"
    module, turn = DeepseekV2Attention(config, 0), DeepseekV2RotaryEmbedding(config)
    arguments = latent.latent_arguments(D_LQ, D_X)
    arguments |= {"gamma": normal((D_L,)), "W_DQ": normal((D_X, D_LQ)), "gamma_Q": normal((D_LQ,)),
                  "C_past": normal((B, P, D_L)), "K_R_past": normal((B, P, D_R))}  # fmt: skip

    def run(X: Tensor, C_past: Tensor, K_R_past: Tensor, **weights: Tensor) -> dict[str, Tensor]:
        cache = DynamicCache()
        cache.update(C_past[:, None], K_R_past[:, None], 0)
        given = {"position_embeddings": turn(X, torch.arange(P, P + N)[None]), "attention_mask": hidden(N, P)}
        state = latent.deepseek_weights(**weights)
        Z, _ = torch.func.functional_call(module, state, (X,), given | {"cache": cache}, strict=True)
        return {"value": Z, "C": cache.layers[0].keys[:, 0], "K_R": cache.layers[0].values[:, 0]}

    m = 0.1 * 0.707 * math.log(40) + 1
    options = {"n_heads": H, "theta": turn.inv_freq.numpy(), "factor": turn.attention_scaling,
               "scale": m * m / math.sqrt(D_C + D_R)}  # fmt: skip
    case = "v13_latent.deepseek_v2"
    return with_options(case, record(case, run, arguments), options)


def qwen3_next_attention() -> Arrays:
    rope = {"rope_type": "default", "rope_theta": 20.0, "partial_rotary_factor": 0.7}
    config = Qwen3NextConfig(
        hidden_size=D_X, num_attention_heads=H, num_key_value_heads=H_K, head_dim=D_Q, rms_norm_eps=0.1,
        rope_parameters=rope, max_position_embeddings=64, num_hidden_layers=1, layer_types=["full_attention"],
    )  # fmt: skip
    config._attn_implementation = "eager"
    module, turn = qwen.Qwen3NextAttention(config, layer_idx=0), qwen.Qwen3NextRotaryEmbedding(config)
    assert len(turn.inv_freq) == 2 and D_Q == 6               # two pairs turn, two columns stay
    arguments = modern.arguments(H_K, P)
    arguments |= {"W_V": normal((D_X, H_K * D_Q)) / 2, "W_O": normal((H * D_Q, D_X)) / 2,
                  "V_past": normal((B, H_K, P, D_Q)), "W_gate": normal((D_X, H * D_Q)) / 2,
                  "gamma_Q": normal((D_Q,)), "gamma_K": normal((D_Q,))}  # fmt: skip

    def run(
        X: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, K_past: Tensor, V_past: Tensor, W_gate: Tensor,
        gamma_Q: Tensor, gamma_K: Tensor,
    ) -> dict[str, Tensor]:  # fmt: skip
        cache = DynamicCache()
        cache.update(K_past, V_past, 0)
        state = {
            "q_proj.weight": side_by_side(H, W_Q, W_gate), "k_proj.weight": W_K.T, "v_proj.weight": W_V.T,
            "o_proj.weight": W_O.T, "q_norm.weight": gamma_Q - 1, "k_norm.weight": gamma_K - 1,
        }  # fmt: skip
        given = {"position_embeddings": turn(X, torch.arange(P, P + N_Q)[None]), "attention_mask": hidden(N_Q, P)}
        Z, _ = torch.func.functional_call(module, state, (X,), given | {"cache": cache}, strict=True)
        return {"value": Z, "K": cache.layers[0].keys, "V": cache.layers[0].values}

    case = "gated_attention.qwen3_next"
    return with_options(case, record(case, run, arguments), {"theta": turn.inv_freq.numpy()})


def side_by_side(n_heads: int, *parts: Tensor) -> Tensor:
    """Each head has its own columns of all parts, one part beside the other."""
    return torch.cat([W.unflatten(1, (n_heads, -1)) for W in parts], -1).flatten(1).T


def qwen3_next_delta_net() -> Arrays:
    H, H_K, N, D_K, D_V, D_X, C = 4, 2, 70, 3, 2, 5, 4
    config = Qwen3NextConfig(
        hidden_size=D_X, linear_num_value_heads=H, linear_num_key_heads=H_K, linear_key_head_dim=D_K,
        linear_value_head_dim=D_V, linear_conv_kernel_dim=C, rms_norm_eps=0.1, num_hidden_layers=1,
        layer_types=["linear_attention"],
    )  # fmt: skip
    module = qwen.Qwen3NextGatedDeltaNet(config, layer_idx=0)
    shapes = {"X": (1, N, D_X), "W_Q": (D_X, H_K * D_K), "W_K": (D_X, H_K * D_K), "W_V": (D_X, H * D_V),
              "W_Z": (D_X, H * D_V), "W_beta": (D_X, H), "W_g": (D_X, H), "taps": (C, 2 * H_K * D_K + H * D_V),
              "A_log": (H,), "b_g": (H,), "gamma": (D_V,), "W_O": (H * D_V, D_X)}  # fmt: skip
    arguments = {name: normal(shape) / 2 for name, shape in shapes.items()}
    arguments["A_log"] -= 3                                   # so slow a decay that later chunks remember the first

    def run(
        X: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_Z: Tensor, W_beta: Tensor, W_g: Tensor, taps: Tensor,
        A_log: Tensor, b_g: Tensor, gamma: Tensor, W_O: Tensor,
    ) -> Tensor:  # fmt: skip
        state = {
            "in_proj_qkvz.weight": side_by_side(H_K, W_Q, W_K, W_V, W_Z),
            "in_proj_ba.weight": side_by_side(H_K, W_beta, W_g),
            "conv1d.weight": taps.T[:, None], "A_log": A_log, "dt_bias": b_g, "norm.weight": gamma,
            "out_proj.weight": W_O.T,
        }  # fmt: skip
        return torch.func.functional_call(module, state, (X,), strict=True)

    return record("gated_delta_net.qwen3_next", run, arguments)


def with_options(case: str, made: Arrays, options: dict[str, Any]) -> Arrays:
    return made | {f"{case}/option/{name}": np.asarray(option) for name, option in options.items()}


if __name__ == "__main__":
    main()
