"""The decoder one token at a time, with key/value caches: what greedy and beam search run on.

At position t a decoder layer needs the keys and values of positions 0 … t. Those of earlier positions do not change,
because the sequence mask hides from each position what follows it. So they are kept in buffers, and each step writes
one position. A buffer that is full is doubled. Keys and values of the encoder's output M are computed once. Only the
scores of each head cost more work at a later position.

**Beams**  k beginnings of one source form a group, its k beams. Their keys and values stand side by side,

    slot t·k + j    of the group's cache: position t of what was beam j at that time

and each beam attends to the slots of its own past alone. When beams are reordered, this mask of pasts is reordered, and
no key or value is moved. There are k times as many scores, but one matrix product for each group and head computes
them, and the beams share the keys and values of their source.

This is for inference: there is no backward, and dropout is off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from npattn._internal.checks import Array, Params
from npattn.decoding.inference_layers import Embedding, Layer, Norm, Projection, encode
from npattn.transformer.config import TransformerConfig
from npattn.transformer.parameters import Nested, nested
from npattn.transformer.relative_bias import relative_bias
from npattn.transformer.variants import positions

#: Positions for which the caches have room at first. New memory costs time when it is first touched: with 16 positions
#: it takes 6 % longer to decode a batch of words.
ROOM = 8


class CachedDecoder:
    """The decoder between two tokens: B sources (`len(decoder)`) with `beam` beginnings each, all of t tokens.

    It owns its buffers and writes them in place. It only reads the parameters.
    """

    def __init__(self, params: Params, src: Array, config: TransformerConfig, beam: int = 1) -> None:
        """Encode src (B, N_S)."""
        if not src.shape[1]:
            src = np.full((len(src), 1), config.pad_id)       # an empty source is like one of pads
        with quiet("source"):
            M, self.pads, all_pads = encode(params, src, config)   # (B·N_S, D_X), (B, 1, 1, N_S), (B,)
        W_E, self.p = params[config.target_embedding], nested(params)["decoder"]           # (V, D_X)
        self.W_out = params["output.W"] if config.has_output else W_E.T
        self.b_out = params.get("output.b")
        p, self.embed = self.p, Embedding(W_E, self.p, config)
        self.norm = Norm(p["norm"], config) if config.has_final_norm else None
        self.layers = [DecoderLayer(p[str(i)], M, all_pads, config) for i in range(config.n_decoder_layers)]
        self.config, self.beam, self.t, self.room = config, beam, 0, 0
        self.pasts = np.zeros((len(src), 1, beam, 0), M.dtype)   # (B, 1, k, room·k)  0 for its own past, else −∞
        self.own_slot = np.where(np.eye(beam), 0, -np.inf)       # (k, k)  the same for the newest position

    def __len__(self) -> int:
        return len(self.pasts)

    def step(self, ids: Array) -> Array:
        """Read the tokens ids (B·k,) at position t, and return the logits (B·k, V) of the next tokens.

        Raises FloatingPointError for logits that are not finite: a comparison with NaN would choose some token.
        """
        what = f"logits of position {self.t}"
        if self.t == self.room:
            self._double()
        start, stop = self.t * self.beam, (self.t + 1) * self.beam
        self.pasts[..., start:stop] = self.own_slot
        pasts = self.pasts[..., :stop] if self.beam > 1 else None
        if self.biases is not None:                           # of the positions 0 … t, each for its k slots
            bias = self.biases[:, None, self.room - 1 - self.t :].repeat(self.beam, -1)    # (H, 1, slots)
            pasts = bias if pasts is None else pasts + bias   # (B, H, k, slots)
        with quiet(what):
            X = self.embed(ids, self.positions[self.t])       # (B·k, D_X)
            for layer in self.layers:
                X = layer.step(X, slice(start, stop), pasts, self.pads)
            X = X if self.norm is None else self.norm(X)
            if self.config.scale_output:
                X *= self.config.output_scale
            logits: Array = X @ self.W_out
            if self.b_out is not None:
                logits += self.b_out
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"{what}: expected finite numbers, got some that are not")
        self.t += 1
        return logits

    def reorder(self, parents: Array) -> None:
        """Make beam j of group b a continuation of what was beam parents[b, j]; parents (B, k)."""
        if (parents != np.arange(self.beam)).any():
            pasts = self.pasts[..., : self.t * self.beam]     # (B, 1, k, t·k)
            pasts[...] = np.take_along_axis(pasts, parents[:, None, :, None], 2)

    def keep(self, groups: Array) -> Array:
        """Drop all groups but the given ones, in ascending order; return the old number of the group at each new place.

        Groups move only to the places of dropped groups, so that a whole search moves no more than B groups.
        """
        n = len(groups)
        order, is_kept = np.arange(n), np.zeros(len(self), bool)
        is_kept[groups] = True
        holes, movers = np.flatnonzero(~is_kept[:n]), groups[groups >= n]
        order[holes] = movers
        slots = self.t * self.beam
        for layer in self.layers:
            layer.KV[holes, ..., :slots, :] = layer.KV[movers, ..., :slots, :]
            layer.KV_M[holes] = layer.KV_M[movers]
            layer.KV, layer.KV_M = layer.KV[:n], layer.KV_M[:n]
        self.pasts[holes, ..., :slots] = self.pasts[movers, ..., :slots]
        self.pads[holes] = self.pads[movers]
        self.pasts, self.pads = self.pasts[:n], self.pads[:n]
        return order

    def _double(self) -> None:
        self.room = max(2 * self.room, ROOM)
        if self.config.max_length is not None:
            self.room = min(self.room, self.config.max_length)
        self.positions, _ = positions(self.room, self.p, self.config, self.pasts.dtype)
        self.biases, _ = relative_bias(np.arange(1 - self.room, 1), self.p, self.config, both=False)   # (H, room)
        self.pasts = longer(self.pasts, self.room * self.beam, axis=-1)
        for layer in self.layers:
            layer.KV = longer(layer.KV, self.room * self.beam, axis=-2)


@contextlib.contextmanager
def quiet(what: str) -> Iterator[None]:
    """Make weights below the smallest number 0 without a warning, and an overflow an error.

    Squares beyond the largest number would otherwise make the output of a layer norm 0.
    """
    try:
        with np.errstate(under="ignore", over="raise"):
            yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{what}: expected finite numbers, got an {error}") from error


class DecoderLayer(Layer):
    """One decoder layer with its caches."""

    def __init__(self, p: Nested, M: Array, all_pads: Array, config: TransformerConfig) -> None:
        super().__init__(p, config)
        B, H = len(all_pads), config.n_heads
        self.Q = Projection(p["cross_attention"], "Q", config)
        self.KV_M = np.ascontiguousarray(Projection(p["cross_attention"], "KV", config)(M, B))   # (B, 2, H, N_S, D_H)
        self.KV_M[all_pads, 1] = 0                            # a source of pads alone has the values 0, so Y = 0
        self.KV = np.zeros((B, 2, H, 0, config.head_width), M.dtype)                        # (B, 2, H, room·k, D_H)

    def step(self, X: Array, slots: slice, pasts: Array | None, pads: Array) -> Array:
        """`npattn.transformer.fast.layers.decoder_layer` for X (B·k, D_X), the newest position of every beam."""

        def self_attention(I: Array) -> Array:
            QKV = self.QKV(I, len(self.KV))                   # (B, 3, H, k, D_H)
            self.KV[..., slots, :] = QKV[:, 1:]
            K, V = self.KV[:, 0, :, : slots.stop], self.KV[:, 1, :, : slots.stop]
            return self.attention(QKV[:, 0], K, V, pasts, "self_attention")

        def cross_attention(I: Array) -> Array:
            Q = self.Q(I, len(self.KV))[:, 0]                 # (B, H, k, D_H)
            return self.attention(Q, self.KV_M[:, 0], self.KV_M[:, 1], pads, "cross_attention")

        X = self.sub_layer(X, self_attention, self.norms[0])
        X = self.sub_layer(X, cross_attention, self.norms[1])
        return self.sub_layer(X, self.feed_forward, self.norms[2])


def longer(buffer: Array, n: int, axis: int) -> Array:
    """Return the buffer with room for n entries along an axis. The new entries have no values yet."""
    shape = list(buffer.shape)
    old, shape[axis] = shape[axis], n
    grown = np.empty(shape, buffer.dtype)
    np.moveaxis(grown, axis, 0)[:old] = np.moveaxis(buffer, axis, 0)
    return grown
