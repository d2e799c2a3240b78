"""Texts that grow by one id at a time, on key/value caches.

**Equals** the last row of logits of `forward` in `npattn.language_model.reference`, for each text by itself. Tests
compare the two.

**Changed for speed**

- Each layer keeps the keys and values of all ids so far, so a new id costs one row of products.
- Prompts go through the blocks and tiles of `npattn.language_model.fast.attention`.
- The caches have room for the longest text from the beginning. When a text ends, its rows are dropped; otherwise no key
  is copied. A window reads no key before it.
- Rotary angles are computed once for all positions, masks once a step for all layers of a type.
- A step has no dropout, keeps nothing for a backward, and nothing is checked in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from npattn._internal.checks import Array, check_room
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.v7_multi_head import merge_heads
from npattn.language_model.config import LanguageModelConfig
from npattn.language_model.fast.attention import attend, heads, rotations
from npattn.language_model.fast.causal_blocks import hiding
from npattn.language_model.fast.feed_forward import feed_forward
from npattn.language_model.reference import embed, unembed, window_of
from npattn.layers.kernels import project, sqrt_width
from npattn.layers.layer_norm import layer_norm
from npattn.layers.rms_norm import normalised
from npattn.layers.rotary import Rotation
from npattn.layers.soft_cap import soft_cap
from npattn.transformer.fast.attention import side_by_side
from npattn.transformer.fast.softmax import masked_softmax
from npattn.transformer.parameters import Nested, nested

if TYPE_CHECKING:
    from npattn.language_model.model import LanguageModel


class View(NamedTuple):
    """What the new ids see of the caches in the layers of one type."""

    columns: slice             # no id sees a key outside
    bias: Array | None         # −∞ where an id does not see a column, else 0; None: it sees all
    rotation: Rotation | None  # how far the heads of the new ids turn
    window: int | None


class Reader:
    """Reads texts that grow, first whole prompts and then one id at a time; returns the logits of what follows."""

    def __init__(self, model: LanguageModel, n_texts: int, longest: int) -> None:
        """Make caches for so many texts, none of them longer than `longest`."""
        config, self.model, dtype = model.config, model, model.params.flat.dtype
        shape = (n_texts, config.n_kv_heads, longest, config.d_head)
        check_room("max_new", 2 * config.n_layers * math.prod(shape))
        settings = (config.rotary, config.rotary_sliding) if config.positions == "rotary" else ()
        limits = [one.original_length for one in settings if one.scaling == "dynamic"]
        self.has_cache = all(limit is not None and longest <= limit for limit in limits)
        self.K, self.V = ([np.zeros(shape, dtype) for _ in config.layer_types] for _ in range(2))
        self.rows, self.read = list(range(n_texts)), np.zeros(n_texts, int)    # texts in the caches, and their lengths
        self.turns = rotations(longest, dtype, config)

    def next_logits(self, texts: list[list[int]], rows: list[int]) -> Array:
        """Return the logits (rows, V) after each text; `rows` are their numbers among all."""
        if not self.has_cache:
            return np.stack([self.model.forward(np.array([text]))[0][0, -1] for text in texts])
        if rows != self.rows:                                 # some have ended
            kept = [self.rows.index(row) for row in rows]
            self.K, self.V = ([cache[kept] for cache in caches] for caches in (self.K, self.V))
            self.read, self.rows = self.read[kept], list(rows)
        new = [text[start:] for text, start in zip(texts, self.read, strict=True)]
        N = max(map(len, new))
        ids = np.array([part + [0] * (N - len(part)) for part in new])                     # (rows, N)
        X = self.layers(ids, self.read[:, None] + np.arange(N))                            # (rows, N, D)
        self.read = np.array([len(text) for text in texts])
        last = X[np.arange(len(rows)), [len(part) - 1 for part in new]]                    # (rows, D)
        return unembed(last, nested(self.model.params), self.model.config)[0]

    def layers(self, ids: Array, positions: Array) -> Array:
        """Return what the last norm reads, (rows, N, D), and write the caches."""
        config, p = self.model.config, nested(self.model.params)
        X, _ = embed(ids, p["embedding"], positions, config, None)
        views = {word: self.view(word, positions) for word in set(config.layer_types)}
        for i, word in enumerate(config.layer_types):
            parts = p["layers"][str(i)]
            I = norm(X, parts.get("attention_norm"), config)
            F = self.attention(I, parts["attention"], i, views[word], positions)
            X = X + norm(F, parts.get("attention_post_norm"), config)
            F, _ = feed_forward(norm(X, parts.get("feed_forward_norm"), config), parts["feed_forward"], config)
            X += norm(F, parts.get("feed_forward_post_norm"), config)
        return X

    def view(self, layer_type: str, positions: Array) -> View:
        """Return what ids at these positions (rows, N) see."""
        window, turn = window_of(layer_type, self.model.config), self.turns[layer_type]
        rotation = turn and turn._replace(cos=turn.cos[positions][:, None], sin=turn.sin[positions][:, None])
        first, end = 0 if window is None else max(int(positions.min()) - window + 1, 0), int(positions.max()) + 1
        bias = None                                           # the only text sees all
        if len(positions) > 1:
            behind = positions[:, -1, None, None, None] - np.arange(first, end)            # (rows, 1, 1, columns)
            bias = hiding((behind >= 0) & (behind < (window or end)))
        return View(slice(first, end), bias, rotation, window)

    def attention(self, X: Array, p: Nested, i: int, view: View, positions: Array) -> Array:
        config = self.model.config
        (Q, _), (K, _), V = heads(project(X, *side_by_side(p)), p, view.rotation, config)
        rows = np.arange(len(X))[:, None]
        for cache, part in ((self.K[i], K), (self.V[i], V)):
            cache[rows, :, positions] = part.swapaxes(1, 2)
        if X.shape[1] > 1:                                    # prompts: nothing stands before them
            Y, _ = attend(Q, K, V, view.window, config, None)
            return project(merge_heads(Y), p["W_O"], p.get("b_O"))
        K, V = self.K[i][:, :, view.columns], self.V[i][:, :, view.columns]    # (rows, H_K, columns, d_head)
        s = 1 / sqrt_width(Q) if config.attention_scale is None else config.attention_scale
        E = (Q * s).reshape(len(X), config.n_kv_heads, config.n_heads // config.n_kv_heads, config.d_head) @ K.mT
        E = E if config.attention_softcap is None else soft_cap(E, config.attention_softcap)[0]
        Y = masked_softmax(E, view.bias) @ V                  # (rows, H_K, G, d_head)
        return project(Y.reshape(len(X), 1, config.n_heads * config.d_head), p["W_O"], p.get("b_O"))


def norm(X: Array, p: Nested | None, config: LanguageModelConfig) -> Array:
    """The norm of these parameters; X itself for None."""
    if p is None:
        return X
    if config.norm == "layer":
        return layer_norm(X, p["gamma"], p.get("beta"), config.norm_eps)[0]
    Y, _ = normalised(X, config.norm_eps)
    Y *= 1 + p["gamma"] if config.unit_offset else p["gamma"]
    return Y


# A decorated method has no mutants, so it is wrapped here.
Reader.next_logits = ignore_underflow(Reader.next_logits)     # type: ignore[method-assign]
