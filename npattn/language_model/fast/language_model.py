"""The whole language model: logits, loss, and the gradient of every parameter.

**Equals** `forward` and `backward` of `npattn.language_model.reference`, which derives them. `loss_and_gradients`
equals that forward, `npattn.layers.cross_entropy` and both backwards. Tests compare logits, loss and every gradient.

**Changed for speed**

- Attention and feed-forward are those of this folder.
- A residual sum is written to the memory of its new term. Dropout without an rng makes no copy.
- Without pads, the loss turns the logits into their gradient in place.
- The gradient of a tied output matrix is computed in the layout of W_E, without a transposed copy.
- Gradients are yielded one by one as soon as they are known. Several workers can add theirs up meanwhile.

>>> from npattn.language_model.model import LanguageModel
>>> model = LanguageModel(LanguageModelConfig(9, d_model=8, n_layers=1, n_heads=2), rng=0)
>>> logits, cache = forward(model.params, np.array([[4, 5, 6]]), model.config)
>>> logits.shape                                           # (B, N, V)
(1, 3, 9)
>>> [name for name, _ in gradients(logits, cache)][:3]     # from the last to the first
['output.W', 'norm.gamma', 'layers.0.feed_forward_norm.gamma']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npattn._internal.checks import Array, Params
from npattn._internal.system.underflow import ignore_underflow
from npattn.language_model.config import LanguageModelConfig
from npattn.language_model.fast.attention import attention, attention_backward, rotations
from npattn.language_model.fast.feed_forward import feed_forward, feed_forward_backward
from npattn.language_model.reference import (
    LanguageModelCache,
    Rng,
    check_batch,
    embed,
    embed_backward,
    normalise,
    normalise_backward,
    unembed,
)
from npattn.layers import cross_entropy, cross_entropy_backward, dropout, dropout_backward
from npattn.layers.cross_entropy import SMOOTHING, gradient_in_place, loss_in_place
from npattn.layers.kernels import project, rows, weight_gradient
from npattn.layers.soft_cap import soft_cap_backward
from npattn.transformer.fast.gradient import Gradient
from npattn.transformer.parameters import Nested, dotted, nested
from npattn.transformer.variants import Pair


def forward(
    params: Params, ids: Array, config: LanguageModelConfig, rng: Rng = None
) -> tuple[Array, LanguageModelCache]:
    """Return the logits (B, N, V) and the cache for `gradients`; an rng switches dropout on."""
    check_batch(ids, config)
    p: Nested = nested(params)
    X, c_X = embed(ids, p["embedding"], np.arange(ids.shape[1]), config, rng)              # (B, N, D)
    turns, caches = rotations(ids.shape[1], X.dtype, config), []
    for i, word in enumerate(config.layer_types):
        parts = p["layers"][str(i)]
        X, c_1 = sub_layer(
            X, "attention", lambda X, q, word=word: attention(X, q, word, turns[word], config, rng), parts, config, rng
        )
        X, c_2 = sub_layer(X, "feed_forward", lambda X, q: feed_forward(X, q, config), parts, config, rng)
        caches.append((c_1, c_2))
    logits, c_logits = unembed(X, p, config)                  # (B, N, V)
    return logits, LanguageModelCache(config, logits, (c_X, caches, c_logits))


def loss_and_gradients(
    params: Params, ids: Array, config: LanguageModelConfig, smoothing: float, rng: Rng = None, share: float = 1.0
) -> tuple[float, Iterator[tuple[str, Gradient]]]:
    """Return the mean loss over the real tokens of ids[:, 1:], and `gradients` of `share` times that loss."""
    SMOOTHING("smoothing", smoothing)
    logits, cache = forward(params, ids[:, :-1], config, rng)
    targets = ids[:, 1:]
    if (targets == config.pad_id).any():                      # no target equals None
        loss, c_loss = cross_entropy(logits, targets, smoothing, config.pad_id)
        return float(loss), gradients(cross_entropy_backward(share, c_loss), cache)
    flat, wanted = rows(logits), targets.ravel()
    loss = loss_in_place(flat, wanted, smoothing)             # in the memory of the logits
    gradient_in_place(flat, wanted, smoothing, share)
    return float(loss), gradients(logits, cache)


def sub_layer(
    X: Array, name: str, f: Callable[..., Pair], p: Nested, config: LanguageModelConfig, rng: Rng
) -> tuple[Array, Any]:
    """Y = X + D as `sub_layer` of the reference."""
    I, c_I = normalise(X, p.get(f"{name}_norm"), config)
    F, c_F = f(I, p[name])
    F, c_after = normalise(F, p.get(f"{name}_post_norm"), config)
    D, c_D = (F, None) if rng is None or not config.dropout else dropout(F, config.dropout, rng)
    D += X                                                    # all that makes D returns new arrays
    return D, (c_I, c_F, c_after, c_D)


def sub_layer_backward(
    dY: Array, name: str, f_backward: Callable[..., Any], cache: Any
) -> tuple[Array, Nested]:
    """Return dX and the gradients of the parameters."""
    c_I, c_F, c_after, c_D = cache
    dF = dY if c_D is None else dropout_backward(dY, c_D)     # Y = X + D, D = dropout(F)
    dF, d_after = normalise_backward(dF, c_after)
    dI, d_f = f_backward(dF, c_F)                             # F = f(I)
    dX, d_before = normalise_backward(dI, c_I)                # I = norm(X)
    dX += dY                                                  # X is used twice, so add
    return dX, {f"{name}_norm": d_before, name: d_f, f"{name}_post_norm": d_after}


def unembed_backward(dlogits: Array, cache: Any, config: LanguageModelConfig) -> tuple[Array, Array, Nested]:
    """Return dX, the gradient of the output matrix (of W_E if they are tied), and those of the norm."""
    c_Y, c_S, c_logits = cache
    dS = dlogits if c_logits is None else soft_cap_backward(dlogits, c_logits)             # logits = c tanh(S/c)
    dW = weight_gradient(dS, c_S.X) if config.tie else weight_gradient(c_S.X, dS)          # S = Y W, W = W_Eᵀ
    dX, d_norm = normalise_backward(project(dS, c_S.W.T), c_Y)         # Y = norm(X)
    return dX, dW, d_norm


def layer_backward(dX: Array, cache: Any) -> tuple[Array, Nested]:
    dX, d_feed_forward = sub_layer_backward(dX, "feed_forward", feed_forward_backward, cache[1])
    dX, d_attention = sub_layer_backward(dX, "attention", attention_backward, cache[0])
    return dX, d_feed_forward | d_attention


def gradients(dlogits: Array, cache: LanguageModelCache) -> Iterator[tuple[str, Gradient]]:
    """Yield name and gradient of every block of parameters as soon as it is known, from the last layer to the first.

    W_Q, W_K and W_V stand side by side, and so do their biases. Each array is new; gradients of matrices in the layers
    are functions, see `npattn.transformer.fast.gradient`. A tied embedding comes twice: gradients under one name must
    be added. All are contiguous, as the optimiser likes them.
    """
    config, _, (c_X, caches, c_logits) = cache
    dX, dW, d_norm = unembed_backward(dlogits, c_logits, config)
    yield "embedding.W_E" if config.tie else "output.W", dW
    yield from dotted(d_norm, "norm")
    caches = list(caches)
    del cache, dlogits, c_logits                              # so that memory shrinks on the way back
    while caches:
        dX, d_layer = layer_backward(dX, caches.pop())
        yield from dotted(d_layer, f"layers.{len(caches)}")
    dW_E, dW_P = embed_backward(dX, c_X)
    yield from dotted({"W_E": dW_E, "W_P": dW_P}, "embedding")


forward, loss_and_gradients = ignore_underflow(forward), ignore_underflow(loss_and_gradients)
layer_backward, unembed_backward = ignore_underflow(layer_backward), ignore_underflow(unembed_backward)
embed_backward = ignore_underflow(embed_backward)
