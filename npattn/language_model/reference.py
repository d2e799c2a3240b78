"""The decoder-only language model, whole and plain: one pair of pure functions on a mapping of parameters.

It is built from `npattn.attention` and `npattn.layers` alone. A configuration chooses among the forms below; with the
right choices it is Llama, Mistral, Qwen3, OLMo 2, Gemma 2, Gemma 3 or GPT-2.

**Forward**

    X = dropout(f W_E[ids] + W_P[0 … N − 1])   f is √D with scale_embedding, else 1; W_P for learned positions alone
    Y = norm(layers(X))                        norm is RMS norm or layer norm
    S = Y W                                    W is W_Eᵀ when tied
    logits = c tanh(S/c)                       c is logit_softcap; without it, S

Each layer has two sub-layers, attention and feed-forward. Each of them is a function f inside

    pre     X + dropout(f(norm(X)))            Llama, Mistral, Qwen3, GPT-2
    post    X + dropout(norm(f(X)))            OLMo 2
    both    X + dropout(norm(f(norm(X))))      Gemma 2, Gemma 3

    attention       version 12, its lines one by one: here they may have biases, dropout, and norms with 1 + γ
    feed-forward    f(X) = φ(X W_1 + b_1) W_2 + b_2, or with a gate (φ(X W_G) ⊙ X W_U) W_2, W_1 = [W_G, W_U]

**Backward**  From the last line to the first; the dX of a layer is the dY of the one before it. L is the loss, dY means
∂L/∂Y, and so for every letter. Where a value is used twice, its gradients add (foundations F4).

    logits = c tanh(S/c)           dS = dlogits ⊙ (1 − tanh²(S/c))                         (foundations F7)
    S = Y W                        dW = Yᵀ dS,  dY = dS Wᵀ                                 (foundations F6)
    X + dropout(norm(f(norm(X))))  dX = dY + norm_backward(f_backward(norm_backward(dD))), dD = dY ⊙ the factors that
                                   forward drew: X is used in the sum and in f             (foundations F13)
    attention                      version 12 derives it; its own lines are below, in reverse
    feed-forward                   dW_2 = Hᵀ dF,  dH = dF W_2ᵀ,  dU = φ_backward(dH),  dW_1 = Xᵀ dU,  dX = dU W_1ᵀ
    X = dropout(f E + P)           dE = f (dX ⊙ the factors),  dP the sum of these over the batch, without f
    E_n = W_E[ids_n]               dW_E[v] = Σ dE_n over all n with ids_n = v              (foundations F12)
    tie                            W_E adds the output's dWᵀ and the embedding's gradient

**Pads** stand after the end of short rows. No real token sees what follows it, so nothing hides them; only the loss
leaves them out.

**Raises**  TypeError for ids that are no integers, IndexError for ids outside the vocabulary, ValueError for shapes.

**Source**  Radford et al. (2019), "Language Models are Unsupervised Multitask Learners", for GPT-2; Touvron et al.
(2023), arXiv:2302.13971; Jiang et al. (2023), arXiv:2310.06825; Gemma Team (2024), arXiv:2408.00118, and (2025),
arXiv:2503.19786; OLMo Team (2025), arXiv:2501.00656; Qwen Team (2025), arXiv:2505.09388.

With γ = 0 every row of Y is β = (1, 1), so the logits are the sums of the rows of W_E.

>>> config = LanguageModelConfig(5, d_model=2, n_layers=1, n_heads=1, norm="layer", norm_bias=True, tie=True)
>>> params = {name: np.zeros(shape) for name, shape in config.shapes().items()} | {"norm.beta": np.ones(2)}
>>> params["embedding.W_E"] = np.arange(10.0).reshape(5, 2)
>>> logits, cache = forward(params, np.array([[4]]), config)
>>> logits[0]
array([[ 1.,  5.,  9., 13., 17.]])
>>> backward(np.array([[[0.0, 0.0, 0.0, 0.0, 3.0]]]), cache)["norm.beta"]              # 3 W_E[4]
array([24., 27.])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from npattn._internal.checks import Array, Params, check_cache, check_cotangent, differences, layout_of
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.attention.v12_normalised import normed_heads, normed_heads_back
from npattn.language_model.config import LanguageModelConfig
from npattn.layers import dropout, dropout_backward, linear, linear_backward
from npattn.layers.embedding import embedding, embedding_backward
from npattn.layers.layer_norm import Cache as LayerNormCache
from npattn.layers.layer_norm import layer_norm, layer_norm_backward
from npattn.layers.rms_norm import rms_norm, rms_norm_backward
from npattn.layers.rotary import rotary, rotary_backward
from npattn.layers.soft_cap import soft_cap, soft_cap_backward
from npattn.transformer.batch import ANY_ARRAY, check_ids_of_batch
from npattn.transformer.parameters import Nested, dotted, nested
from npattn.transformer.variants import PHI, Pair

Rng: TypeAlias = np.random.Generator | None


class LanguageModelCache(NamedTuple):
    """What `backward` needs."""

    config: LanguageModelConfig
    logits: Array
    parts: tuple[Any, ...]                                    # the caches of all parts, in the order of forward


def forward(
    params: Params, ids: Array, config: LanguageModelConfig, rng: Rng = None
) -> tuple[Array, LanguageModelCache]:
    """Return the logits (B, N, V) and the cache for `backward`.

    - params: the parameters by name, as `config.shapes()` lists them.
    - ids: ids (B, N), <pad> after the end of short rows. The logits at position i see ids up to i.
    - config: sizes and choices of the model.
    - rng: switches dropout on; None leaves it off.
    """
    check_inputs(params, ids, config)
    p, c_layers = nested(params), []
    X, c_X = embed(ids, p["embedding"], np.arange(ids.shape[1]), config, rng)              # (B, N, D)
    for i, layer_type in enumerate(config.layer_types):
        X, c_layer = layer(X, p["layers"][str(i)], layer_type, config, rng)                # (B, N, D)
        c_layers.append(c_layer)
    logits, c_logits = unembed(X, p, config)                  # (B, N, V)
    return logits, LanguageModelCache(config, logits, (c_X, c_layers, c_logits))


def backward(dlogits: Array, cache: LanguageModelCache) -> dict[str, Array]:
    """Return the gradient of every parameter, by name.

    - dlogits: the gradient of the loss with respect to the logits.
    - cache: what `forward` returned beside the logits.
    """
    logits = check_cache(cache, LanguageModelCache).logits
    check_cotangent("dlogits", dlogits, logits.shape, logits.dtype)
    config, _, (c_X, c_layers, c_logits) = cache
    dX, dW, d_norm = unembed_backward(dlogits, c_logits)
    d_layers: Nested = {}
    for i in reversed(range(config.n_layers)):
        dX, d_layers[str(i)] = layer_backward(dX, c_layers[i])
    dW_E, dW_P = embed_backward(dX, c_X)
    if config.tie:
        dW_E, dW = dW_E + dW.T, None                          # W = W_Eᵀ: W_E is used twice, so add
    d_embedding = {"W_E": dW_E, "W_P": dW_P}
    return dict(dotted({"embedding": d_embedding, "layers": d_layers, "norm": d_norm, "output": {"W": dW}}))


def embed(ids: Array, p: Nested, positions: Array, config: LanguageModelConfig, rng: Rng) -> Pair:
    E, c_E = embedding(ids, p["W_E"])                         # (B, N, D)
    f = config.d_model**0.5 if config.scale_embedding else 1.0
    P, c_P = embedding(positions, p["W_P"]) if "W_P" in p else (None, None)                # (N, D)
    X, c_X = dropout(E * f if P is None else E * f + P, config.dropout, rng)
    return X, (f, c_E, c_P, c_X)


def embed_backward(dX: Array, cache: Any) -> tuple[Array, Array | None]:
    f, c_E, c_P, c_X = cache
    dX = dropout_backward(dX, c_X)                            # X = dropout(f E + P)
    dW_P = None if c_P is None else embedding_backward(dX.sum(0), c_P)                     # P serves every row: add
    return embedding_backward(dX * f, c_E), dW_P              # E = W_E[ids]


def unembed(X: Array, p: Nested, config: LanguageModelConfig) -> Pair:
    Y, c_Y = normalise(X, p["norm"], config)                  # (B, N, D)
    S, c_S = linear(Y, p["embedding"]["W_E"].T if config.tie else p["output"]["W"])        # (B, N, V)
    logits, c_logits = (S, None) if config.logit_softcap is None else soft_cap(S, config.logit_softcap)
    return logits, (c_Y, c_S, c_logits)


def unembed_backward(dlogits: Array, cache: Any) -> tuple[Array, Any, Nested]:
    c_Y, c_S, c_logits = cache
    dS = dlogits if c_logits is None else soft_cap_backward(dlogits, c_logits)             # logits = c tanh(S/c)
    dY, dW, _ = linear_backward(dS, c_S)                      # S = Y W
    dX, d_norm = normalise_backward(dY, c_Y)                  # Y = norm(X)
    return dX, dW, d_norm


def layer(X: Array, p: Nested, layer_type: str, config: LanguageModelConfig, rng: Rng) -> Pair:
    X, c_1 = sub_layer(X, "attention", lambda X, p: attention(X, p, layer_type, config, rng), p, config, rng)
    X, c_2 = sub_layer(X, "feed_forward", lambda X, p: feed_forward(X, p, config), p, config, rng)
    return X, (c_1, c_2)


def layer_backward(dX: Array, cache: Any) -> tuple[Array, Nested]:
    dX, d_feed_forward = sub_layer_backward(dX, "feed_forward", feed_forward_backward, cache[1])
    dX, d_attention = sub_layer_backward(dX, "attention", attention_backward, cache[0])
    return dX, d_attention | d_feed_forward


def sub_layer(
    X: Array, name: str, f: Callable[..., Any], p: Nested, config: LanguageModelConfig, rng: Rng
) -> Pair:
    I, c_I = normalise(X, p.get(f"{name}_norm"), config)
    F, c_F = f(I, p[name])
    F, c_after = normalise(F, p.get(f"{name}_post_norm"), config)
    D, c_D = dropout(F, config.dropout, rng)
    return X + D, (c_I, c_F, c_after, c_D)


def sub_layer_backward(dY: Array, name: str, f_backward: Callable[..., Any], cache: Any) -> tuple[Array, Nested]:
    c_I, c_F, c_after, c_D = cache
    dF = dropout_backward(dY, c_D)                            # Y = X + D, D = dropout(F)
    dF, d_after = normalise_backward(dF, c_after)
    dI, d_f = f_backward(dF, c_F)                             # F = f(I)
    dX, d_before = normalise_backward(dI, c_I)                # I = norm(X)
    return dY + dX, {f"{name}_norm": d_before, name: d_f, f"{name}_post_norm": d_after}   # X is used twice, so add


def attention(X: Array, p: Nested, layer_type: str, config: LanguageModelConfig, rng: Rng) -> Pair:
    frequencies = config.frequencies(layer_type, X.shape[1])  # None for learned positions
    Q, c_Q = heads(X, p, "Q", config, frequencies)            # (B, H, N, d_head)
    K, c_K = heads(X, p, "K", config, frequencies)            # (B, H_K, N, d_head)
    V, c_V = heads(X, p, "V", config)                         # (B, H_K, N, d_head)
    Y, c_Y = scaled_dot_product_attention(
        Q, K, V, scale=config.attention_scale, causal=True, window=window_of(layer_type, config),
        softcap=config.attention_softcap, grouped=True, dropout=config.attention_dropout, rng=rng,
    )  # fmt: skip
    Z, c_Z = linear(merge_heads(Y), p["W_O"], p.get("b_O"))   # (B, N, D)
    return Z, (c_Q, c_K, c_V, c_Y, c_Z, config.n_heads)


def attention_backward(dZ: Array, cache: Any) -> tuple[Array, Nested]:
    c_Q, c_K, c_V, c_Y, c_Z, n_heads = cache
    dY, dW_O, db_O = linear_backward(dZ, c_Z)                 # Z = merge(Y) W_O + b_O
    dQ, dK, dV, _ = scaled_dot_product_attention_backward(split_heads(dY, n_heads), c_Y)
    dX_Q, dp_Q = heads_backward(dQ, "Q", c_Q)
    dX_K, dp_K = heads_backward(dK, "K", c_K)
    dX_V, dp_V = heads_backward(dV, "V", c_V)
    return dX_Q + dX_K + dX_V, {**dp_Q, **dp_K, **dp_V, "W_O": dW_O, "b_O": db_O}          # X is used three times: add


def heads(X: Array, p: Nested, which: str, config: LanguageModelConfig, frequencies: Any = None) -> Pair:
    """Queries f R split(norm(X W_Q + b_Q)), keys likewise, or values split(X W_V + b_V); `which` is Q, K or V."""
    T, c_T = linear(X, p[f"W_{which}"], p.get(f"b_{which}"))  # (B, N, heads · d_head)
    gamma = p.get(f"gamma_{which}")
    if gamma is not None and config.unit_offset:
        gamma = 1 + gamma                                     # its gradient is that of 1 + γ
    T, c_norm = normed_heads(T, gamma, T.shape[-1] // config.d_head, config.qk_norm, config.norm_eps)
    T, c_R = (T, None) if frequencies is None else rotary(T, frequencies, pairing=config.pairing)
    return T, (c_T, config.qk_norm, c_norm, c_R)


def heads_backward(dT: Array, which: str, cache: Any) -> tuple[Array, Nested]:
    c_T, qk_norm, c_norm, c_R = cache
    dT = dT if c_R is None else rotary_backward(dT, c_R)      # T = f R …
    dT, dgamma = normed_heads_back(dT, qk_norm, c_norm)       # T = split(norm(…)), merged
    dX, dW, db = linear_backward(dT, c_T)                     # … = X W + b
    return dX, {f"W_{which}": dW, f"b_{which}": db, f"gamma_{which}": dgamma}


def window_of(layer_type: str, config: LanguageModelConfig) -> int | None:
    return config.window if layer_type == "sliding_attention" else None


def feed_forward(X: Array, p: Nested, config: LanguageModelConfig) -> Pair:
    phi, phi_backward, options = PHI[config.activation, config.gated]
    U, c_U = linear(X, p["W_1"], p.get("b_1"))                # (B, N, d_ff), twice that with a gate
    H, c_H = phi(U, **options)                                # (B, N, d_ff)
    F, c_F = linear(H, p["W_2"], p.get("b_2"))                # (B, N, D)
    return F, (phi_backward, c_U, c_H, c_F)


def feed_forward_backward(dF: Array, cache: Any) -> tuple[Array, Nested]:
    phi_backward, c_U, c_H, c_F = cache
    dH, dW_2, db_2 = linear_backward(dF, c_F)                 # F = H W_2 + b_2
    dX, dW_1, db_1 = linear_backward(phi_backward(dH, c_H), c_U)   # H = φ(U), U = X W_1 + b_1
    return dX, {"W_1": dW_1, "b_1": db_1, "W_2": dW_2, "b_2": db_2}


def normalise(X: Array, p: Nested | None, config: LanguageModelConfig) -> Pair:
    if p is None:                                             # no norm here
        return X, None
    if config.norm == "layer":
        return layer_norm(X, p["gamma"], p.get("beta"), config.norm_eps)
    return rms_norm(X, p["gamma"], config.norm_eps, config.unit_offset)


def normalise_backward(dY: Array, cache: Any) -> tuple[Array, Nested]:
    if cache is None:
        return dY, {}
    dX, dgamma, *dbeta = (layer_norm_backward if isinstance(cache, LayerNormCache) else rms_norm_backward)(dY, cache)
    return dX, {"gamma": dgamma, "beta": dbeta[0] if dbeta else None}     # RMS norm has no β


def check_inputs(params: Params, ids: Array, config: LanguageModelConfig) -> None:
    """Raise unless these are arrays under the names of the parameters, and a batch that fits the positions."""
    names = dict.fromkeys(layout_of("params", params), ANY_ARRAY)
    if wrong := differences(names, dict.fromkeys(config.shapes(), ANY_ARRAY)):
        raise ValueError(f"params: {wrong}")
    check_batch(ids, config)


def check_batch(ids: Array, config: LanguageModelConfig) -> None:
    """Raise unless these are integer ids (B, N) of the vocabulary, no more in a row than there are positions."""
    check_ids_of_batch("ids", ids, config.vocab)
    if config.positions == "learned" and ids.shape[1] > config.max_length:
        raise ValueError(f"ids: expected at most max_length={config.max_length} in a row, got {ids.shape}")


def check_rows(ids: Array, config: LanguageModelConfig) -> None:
    """Raise unless these are ids (B, N) to train on. The model reads all but the last one of a row."""
    check_ids_of_batch("ids", ids, config.vocab)
    if ids.shape[1] < 2:
        raise ValueError(f"ids: expected ids (B, N) with two columns or more, got {ids.shape}")
    most = config.max_length
    if config.positions == "learned" and most is not None and ids.shape[1] > most + 1:
        raise ValueError(f"ids: expected at most max_length + 1={most + 1} in a row, got {ids.shape}")


forward, backward = ignore_underflow(forward), ignore_underflow(backward)
