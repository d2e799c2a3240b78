"""The encoder–decoder Transformer, whole and plain: one pair of pure functions on a mapping of parameters.

It is built from `npattn.attention` and `npattn.layers`. `npattn.transformer.fast` computes the same, faster. Positions,
norms and φ that the paper does not have are in `npattn.transformer.variants`.

**Forward**

    S = dropout(√D_X W_E[src] + P)        the embedded source; P are the sinusoidal positions
    M = norm(encoder layers(S))           what the decoder reads; norm is layer norm
    T = dropout(√D_X W_E[tgt] + P)        the embedded target
    Y = norm(decoder layers(T, M))        these two norms are there with pre-norm or final_norm=True
    logits = Y W                          scores of the next token; W is W_Eᵀ of the target embedding when tied

An encoder layer is self-attention and feed-forward; a decoder layer self-attention, cross-attention to M and
feed-forward. Each of them is a function f inside a sub-layer:

    post-norm    Y = norm(R),  R = X + dropout(f(X))        as in Vaswani et al.
    pre-norm     Y = X + dropout(f(norm(X)))
    feed-forward f(X) = φ(X W_1 + b_1) W_2 + b_2            φ is relu, or another of `variants`
    attention    version 7; with Y = dropout(A) V, or scores with a bias or another scale, that of `dropped_attention`

The pad mask hides <pad> from every attention; the sequence mask hides from each target position what follows it.

**Backward**  From the last line to the first; the dX of a layer is the dY of the one before it. L is the loss, dY means
∂L/∂Y, and so for every letter; products sum over the batch too. Where a value is used twice, two arrows meet and its
gradients add (foundations F4). `npattn explain foundations` goes through the whole model (foundations F15).

    logits = Y W                   dW = Yᵀ dlogits,  dY = dlogits Wᵀ                       (foundations F6)

    post-norm: Y = norm(R)         dR = norm_backward(dY), which gives dγ and dβ too       (foundations F10)
      R = X + D                    dD = dR, and dR is the first term of dX                 (foundations F13)
      D = dropout(F)               dF = dD ⊙ the factors that forward drew, 0 or 1/(1 − p)    (foundations F7)
      F = f(X)                     dX = dR + f_backward(dF): two arrows meet, as X is used in R and in f
    pre-norm: Y = X + D            dD = dY, and dY is the first term of dX;  dF as above
      F = f(I), I = norm(X)        dX = dY + norm_backward(f_backward(dF)): X is used in Y and in I
    feed-forward: F = H W_2 + b_2  dW_2 = Hᵀ dF,  db_2 = 1ᵀ dF,  dH = dF W_2ᵀ              (foundations F6)
      H = φ(U)                     dU = dH ⊙ φ'(U), entry by entry                         (foundations F7)
      U = X W_1 + b_1              dW_1 = Xᵀ dU,  db_1 = 1ᵀ dU,  dX = dU W_1ᵀ
    attention                      version 7 or dropped_attention gives dX_Q, dX and its parameters' gradients from dF;
                                   f_backward is dX_Q + dX in self-attention, whose inputs are one, else dX_Q
    M                              X of the cross-attention in every decoder layer: dM is the sum of their dX; then only
                                   does the encoder begin, with dM as the dY of its last line
    X = dropout(√D_X E + P)        dE = √D_X (dX ⊙ the factors); P has no parameters       (foundations F7)
    E_n = W_E[ids_n]               dW_E[v] = Σ dE_n over all n with ids_n = v              (foundations F12)
    ties                           tie="output": W_E of the target adds the output's dWᵀ and the embedding's gradient;
                                   tie="all": one W_E adds those two and the source embedding's

**Raises**  TypeError for ids that are no integers, IndexError for ids outside their vocabulary, ValueError for shapes.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3 and §5.4; Xiong et al. (2020), arXiv:2002.04745, for pre-norm.

>>> config = TransformerConfig(5, 5, d_model=2, n_heads=1, d_ff=2, n_encoder_layers=0, n_decoder_layers=1, norm="pre")
>>> params = {name: np.zeros(shape) for name, shape in config.shapes().items()} | {"decoder.norm.beta": np.ones(2)}
>>> params["target_embedding.W_E"] = np.arange(10.0).reshape(5, 2)     # with γ = 0 every row of Y is β = (1, 1)
>>> logits, cache = forward(params, np.array([[4]]), np.array([[1]]), config)
>>> logits[0]                                              # the sums of the rows of W_E
array([[ 1.,  5.,  9., 13., 17.]])
>>> backward(np.array([[[0.0, 0.0, 0.0, 0.0, 3.0]]]), cache)["decoder.norm.beta"]          # 3 W_E[4]
array([24., 27.])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from npattn._internal.checks import Array, Params, check_cache, check_cotangent
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention import v7_multi_head
from npattn.attention.masks import causal_mask, padding_mask
from npattn.layers import dropout, dropout_backward, linear, linear_backward
from npattn.layers.embedding import embedding, embedding_backward
from npattn.transformer import dropped_attention
from npattn.transformer.batch import check_inputs, target_mask
from npattn.transformer.config import TransformerConfig
from npattn.transformer.parameters import Nested, added, dotted, nested
from npattn.transformer.relative_bias import distances, relative_bias, relative_bias_backward, with_bias
from npattn.transformer.variants import PHI, Pair, normalise, normalise_backward, positions, positions_backward

PROJECTIONS = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O")                     # in the order of version 7
Rng: TypeAlias = np.random.Generator | None


class Cache(NamedTuple):
    """What `backward` needs."""
    config: TransformerConfig
    logits: Array
    parts: tuple[Any, ...]                                    # the caches of all parts, in the order of forward


def forward(params: Params, src: Array, tgt: Array, config: TransformerConfig, rng: Rng = None) -> tuple[Array, Cache]:
    """Return the logits and the cache for `backward`.

    - params: the parameters by name, as `config.shapes()` lists them.
    - src, tgt: ids of source and target, <pad> after the end of short rows. The logits at position i see tgt up to i.
    - config: sizes and choices of the model.
    - rng: switches dropout on; None leaves it off.
    """
    check_inputs(params, src, tgt, config)
    p = nested(params)
    pads = padding_mask(src, pad_id=config.pad_id)                                         # (B, 1, 1, N_S)
    seen = target_mask(tgt, config) & causal_mask(tgt.shape[1])                            # (B, 1, N_T, N_T)
    p_S, p_T = p.get("encoder", {}), p["decoder"]
    S, c_S = embed(params[config.source_embedding], src, p_S, config, rng)                 # (B, N_S, D_X)
    M, c_M = run_layers(S, p_S, config, lambda X, p: encoder_layer(X, p, pads, config, rng), rng, both=True)
    T, c_T = embed(params[config.target_embedding], tgt, p_T, config, rng)                 # (B, N_T, D_X)
    Y, c_Y = run_layers(T, p_T, config, lambda X, p: decoder_layer(X, M, p, seen, pads, config, rng), rng, False)
    Y = Y * config.output_scale if config.scale_output else Y                              # (B, N_T, D_X)
    W = params["output.W"] if config.has_output else params[config.target_embedding].T     # (D_X, V)
    logits, c_logits = linear(Y, W, params.get("output.b"))                                # (B, N_T, V)
    return logits, Cache(config, logits, (c_S, c_M, c_T, c_Y, c_logits))


def backward(dlogits: Array, cache: Cache) -> dict[str, Array]:
    """Return the gradient of every parameter, by name.

    - dlogits: the gradient of the loss with respect to the logits.
    - cache: what `forward` returned beside the logits.
    """
    check_cotangent("dlogits", dlogits, check_cache(cache, Cache).logits.shape, cache.logits.dtype)
    config, _, (c_S, c_M, c_T, c_Y, c_logits) = cache
    dY, dW, db = linear_backward(dlogits, c_logits)           # logits = Y W + b
    dY = dY * config.output_scale if config.scale_output else dY
    dT, dM, d_decoder = run_layers_backward(dY, c_Y, decoder_layer_backward)
    dS, _, d_encoder = run_layers_backward(dM, c_M, encoder_layer_backward)
    (dW_S, d_S), (dW_T, d_T) = embed_backward(dS, c_S), embed_backward(dT, c_T)
    parts = {"encoder": d_encoder | d_S, "decoder": d_decoder | d_T, "output": {"b": db}}
    uses = [*dotted(parts), (config.source_embedding, dW_S), (config.target_embedding, dW_T)]
    uses.append(("output.W", dW) if config.has_output else (config.target_embedding, dW.T))      # W = W_Eᵀ
    return added(uses)                                        # a tied W_E is used several times


def embed(W_E: Array, ids: Array, p: Nested, config: TransformerConfig, rng: Rng) -> Pair:
    E, c_E = embedding(ids, W_E)                              # (B, N, D_X)
    P, c_P = positions(ids.shape[1], p, config, E.real.dtype)                              # (N, D_X)
    f = config.d_model**0.5 if config.scale_embedding else 1.0
    R, c_R = normalise(E * f + P, p.get("embedding_norm"), config)
    X, c_X = dropout(R, config.dropout, rng)
    return X, (f, None if config.pad_gradient else ids != config.pad_id, c_E, c_P, c_R, c_X)


def embed_backward(dX: Array, cache: Any) -> tuple[Array, Nested]:
    f, kept, c_E, c_P, c_R, c_X = cache
    dR, d_norm = normalise_backward(dropout_backward(dX, c_X), c_R)   # X = dropout(norm(R)), R = f E + P
    dE = dR * f if kept is None else dR * f * kept[..., None]
    return embedding_backward(dE, c_E), positions_backward(dR, c_P) | {"embedding_norm": d_norm}


def run_layers(X: Array, p: Nested, config: TransformerConfig, layer: Callable[..., Any], rng: Rng, both: bool) -> Pair:
    caches, (B, c_B) = [], relative_bias(distances(X.shape[1]), p, config, both)              # (H, N, N), or None
    for i in range(sum(name.isdigit() for name in p)):
        X, cache = layer(X, with_bias(p[str(i)], B))
        caches.append(cache)
    X, c_norm = normalise(X, p.get("norm"), config)
    X, c_X = dropout(X, config.dropout, rng) if config.final_dropout else (X, None)
    return X, (caches, c_B, c_norm, c_X)


def run_layers_backward(dX: Array, cache: Any, layer_backward: Callable[..., Any]) -> tuple[Array, Any, Nested]:
    (caches, c_B, c_norm, c_X), grads, dM = cache, {}, 0.0
    dX, grads["norm"] = normalise_backward(dX if c_X is None else dropout_backward(dX, c_X), c_norm)
    for i in reversed(range(len(caches))):
        dX, dM_i, grads[str(i)] = layer_backward(dX, caches[i])
        dM = dM + dM_i                                        # every decoder layer reads M, so add
    return dX, dM, grads | relative_bias_backward(grads, c_B)


def encoder_layer(X: Array, p: Nested, pads: Array, config: TransformerConfig, rng: Rng) -> Pair:
    X, c_1 = sub_layer(X, lambda I: attention(I, I, p["self_attention"], pads, config, rng), p["norm_1"], config, rng)
    X, c_2 = sub_layer(X, lambda I: feed_forward(I, p["feed_forward"], config, rng), p["norm_2"], config, rng)
    return X, (c_1, c_2)


def encoder_layer_backward(dX: Array, cache: Any) -> tuple[Array, float, Nested]:
    dX, _, d_feed_forward, d_2 = sub_layer_backward(dX, cache[1], feed_forward_backward)
    dX, _, d_self, d_1 = sub_layer_backward(dX, cache[0], self_attention_backward)
    return dX, 0.0, {"self_attention": d_self, "norm_1": d_1, "feed_forward": d_feed_forward, "norm_2": d_2}


def decoder_layer(X: Array, M: Array, p: Nested, seen: Array, pads: Array, config: TransformerConfig, rng: Rng) -> Pair:
    X, c_1 = sub_layer(X, lambda I: attention(I, I, p["self_attention"], seen, config, rng), p["norm_1"], config, rng)
    X, c_2 = sub_layer(X, lambda I: attention(I, M, p["cross_attention"], pads, config, rng), p["norm_2"], config, rng)
    X, c_3 = sub_layer(X, lambda I: feed_forward(I, p["feed_forward"], config, rng), p["norm_3"], config, rng)
    return X, (c_1, c_2, c_3)


def decoder_layer_backward(dX: Array, cache: Any) -> tuple[Array, Array, Nested]:
    dX, _, d_feed_forward, d_3 = sub_layer_backward(dX, cache[2], feed_forward_backward)
    dX, dM, d_cross, d_2 = sub_layer_backward(dX, cache[1], attention_backward)
    dX, _, d_self, d_1 = sub_layer_backward(dX, cache[0], self_attention_backward)
    norms = {"norm_1": d_1, "norm_2": d_2, "norm_3": d_3}
    return dX, dM, {"self_attention": d_self, "cross_attention": d_cross, "feed_forward": d_feed_forward, **norms}


def sub_layer(X: Array, f: Callable[..., Any], norm: Nested, config: TransformerConfig, rng: Rng) -> Pair:
    I, c_before = normalise(X, norm, config) if config.norm == "pre" else (X, None)
    F, c_f = f(I)
    D, c_D = dropout(F, config.dropout, rng)
    Y, c_after = normalise(X + D, norm, config) if config.norm == "post" else (X + D, None)
    return Y, (c_before, c_f, c_D, c_after)


def sub_layer_backward(dY: Array, cache: Any, f_backward: Callable[..., Any]) -> tuple[Array, Any, Nested, Nested]:
    """Return dX, dM (0 when f does not read M), and the gradients of the parameters of f and of the norm."""
    c_before, c_f, c_D, c_after = cache
    dR, d_after = normalise_backward(dY, c_after)             # Y = norm(R), or Y = R
    dI, dM, d_f = f_backward(dropout_backward(dR, c_D), c_f)  # R = X + D, D = dropout(F), F = f(I)
    dX, d_before = normalise_backward(dI, c_before)           # I = norm(X), or I = X
    return dR + dX, dM, d_f, d_before if c_after is None else d_after   # X is used in R and in I, or in R and f: add


def attention(X_Q: Array, X: Array, p: Nested, mask: Array, config: TransformerConfig, rng: Rng) -> Pair:
    args: list[Any] = [X_Q, X, *(p.get(name) for name in PROJECTIONS)]    # None for no bias
    bias, scale, drop = p.get("B"), config.attention_scale, config.attention_dropout
    if bias is None and scale is None and (rng is None or drop == 0):
        return v7_multi_head.forward(*args, n_heads=config.n_heads, mask=mask)
    return dropped_attention.forward(*args, n_heads=config.n_heads, mask=mask, bias=bias, scale=scale, p=drop, rng=rng)


def attention_backward(dZ: Array, cache: Any) -> tuple[Any, Any, Nested]:
    version = v7_multi_head if isinstance(cache, v7_multi_head.Cache) else dropped_attention
    dX_Q, dX, *dp = version.backward(dZ, cache)
    return dX_Q, dX, dict(zip((*PROJECTIONS, "B"), dp, strict=False))     # B if there is one


def self_attention_backward(dZ: Array, cache: Any) -> tuple[Array, float, Nested]:
    dX_Q, dX, dp = attention_backward(dZ, cache)
    return dX_Q + dX, 0.0, dp                                 # attention(X, X): X is used twice, so add


def feed_forward(X: Array, p: Nested, config: TransformerConfig, rng: Rng) -> Pair:
    phi, phi_backward, options = PHI[config.activation, config.gated]
    U, c_U = linear(X, p["W_1"], p.get("b_1"))                # (B, N, d_ff), twice that with a gate
    H, c_H = phi(U, **options)                                # (B, N, d_ff)
    G, c_G = dropout(H, config.activation_dropout, rng) if config.activation_dropout else (H, None)
    F, c_F = linear(G, p["W_2"], p.get("b_2"))                # (B, N, D_X)
    return F, (phi_backward, c_U, c_H, c_G, c_F)


def feed_forward_backward(dF: Array, cache: Any) -> tuple[Array, float, Nested]:
    phi_backward, c_U, c_H, c_G, c_F = cache
    dG, dW_2, db_2 = linear_backward(dF, c_F)                 # F = G W_2 + b_2
    dH = dG if c_G is None else dropout_backward(dG, c_G)     # G = dropout(H)
    dX, dW_1, db_1 = linear_backward(phi_backward(dH, c_H), c_U)   # H = φ(U), U = X W_1 + b_1
    return dX, 0.0, {"W_1": dW_1, "b_1": db_1, "W_2": dW_2, "b_2": db_2}


forward, backward = ignore_underflow(forward), ignore_underflow(backward)
