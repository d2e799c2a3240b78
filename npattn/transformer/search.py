"""Turn a source into a target: greedy search and beam search, both on key/value caches.

**Greedy**  At every position the token of the highest probability, until <eos>.

**Beam**  Keep the k = `beam` best beginnings of each source and extend all of them by every token. An extension
by <eos> that is among the k best has ended; with k = 1 and α = 0 this is greedy search. Ended hypotheses are ranked by
the length-normalised score

    score = log P(ids, <eos> | src) / ((5 + n) / 6)^α,    n tokens with <eos>, α = length_penalty

A source is finished when no living beginning can overtake its `beam` best ended hypotheses: log P only falls as a
beginning grows, so that none of its continuations can score above log P / ((5 + n_max)/6)^α, n_max = max_len + 1.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §6.1; the penalty is equation 14 of Wu et al. (2016),
arXiv:1609.08144.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._shapes import check_ids, check_size
from npattn._types import Array
from npattn.layers.softmax import row_maximum
from npattn.transformer.incremental import DecoderState, advance, start
from npattn.transformer.model import Transformer


class Hypothesis(NamedTuple):
    """One target: its ids without <bos> and <eos>, its log-probability with <eos>, and its normalised score."""

    ids: list[int]
    log_probability: float
    score: float


def greedy_search(model: Transformer, src: Array, max_len: int) -> list[list[int]]:
    """Return the ids of one target for each row of src (B, N_S), without <bos> and <eos>, at most `max_len` each.

    Raises ValueError for a src that is not (B, N_S) or a negative max_len, TypeError and IndexError for its ids,
    FloatingPointError when the model's logits are not finite.
    """
    check_search(model, src, max_len)
    config = model.config
    tokens = np.full((len(src), max_len + 1), config.eos_id)  # (B, max_len + 1), the last column stays <eos>
    rows = np.arange(len(src))                                # the rows that are not finished
    state = start(model.params, src, config, max(max_len, 1))
    ids = np.full(len(src), config.bos_id)
    for t in range(max_len):
        if not len(rows):
            break
        logits = next_logits(state, ids, t)                   # (rows, V)
        logits[:, [config.pad_id, config.bos_id]] = -np.inf
        ids = logits.argmax(-1)
        tokens[rows, t] = ids
        alive = np.flatnonzero(ids != config.eos_id)
        if len(alive) < len(rows):                            # finished rows leave the batch
            rows, ids, state = rows[alive], ids[alive], state.select(alive)
    return [row[: row.index(config.eos_id)] for row in tokens.tolist()]


def beam_search(
    model: Transformer, src: Array, beam: int = 4, max_len: int = 64, length_penalty: float = 0.6
) -> list[list[Hypothesis]]:
    """Return up to `beam` hypotheses for each row of src (B, N_S), the best first.

    A hypothesis that reaches `max_len` ids must end there. Raises as `greedy_search` does, and ValueError for a beam
    below 1 or a negative length_penalty.
    """
    check_search(model, src, max_len)
    check_size("beam", beam, least=1)
    if length_penalty < 0:
        raise ValueError(f"length_penalty: expected 0 or more, got {length_penalty}")
    ended: list[list[Hypothesis]] = [[] for _ in src]
    live = _first(model, src, beam, max_len)
    for t in range(max_len + 1):
        if not len(live.rows):
            break
        live = _extend(live, model, t, max_len, length_penalty, ended)
    return ended


class _Beams(NamedTuple):
    rows: Array      # (B,)       the source of each group of beams
    log_p: Array     # (B, k)     log-probability of each beginning; −∞ for one that does not exist
    ids: Array       # (B, k, N)  its ids
    state: DecoderState  # of B·k rows


def _first(model: Transformer, src: Array, beam: int, max_len: int) -> _Beams:
    """Every group begins with one empty beginning; its twins would only find the same."""
    log_p = np.full((len(src), beam), -np.inf)
    log_p[:, 0] = 0
    ids = np.full((len(src), beam, max_len + 1), model.config.bos_id)
    return _Beams(np.arange(len(src)), log_p, ids, start(model.params, src, model.config, max_len + 1, beam))


def _extend(
    live: _Beams, model: Transformer, t: int, max_len: int, alpha: float, ended: list[list[Hypothesis]]
) -> _Beams:
    """Extend every beginning by one token, move those that end to `ended`, return the best of the others."""
    config, (B, k) = model.config, live.log_p.shape
    last = live.ids[:, :, t - 1].reshape(-1) if t else np.full(B * k, config.bos_id)
    log_p = log_softmax(next_logits(live.state, last, t).astype(np.float64)).reshape(B, k, -1)
    log_p[:, :, [config.pad_id, config.bos_id]] = -np.inf
    if t == max_len:
        log_p[:, :, np.arange(log_p.shape[-1]) != config.eos_id] = -np.inf
    totals = (live.log_p[:, :, None] + log_p).reshape(B, -1)  # (B, k·V)
    best = top(totals, 2 * k)                                 # (B, 2k): k of them may end, and k go on
    parent, token = np.divmod(best, log_p.shape[-1])
    values = np.take_along_axis(totals, best, 1)
    ends = token == config.eos_id
    for b, j in np.argwhere(ends & np.isfinite(values) & (np.arange(best.shape[1]) < k)):
        _collect(ended[live.rows[b]], live.ids[b, parent[b, j], :t].tolist(), float(values[b, j]), alpha, k)
    on = np.argsort(ends, axis=1, kind="stable")[:, :k]       # (B, k)  the best that go on
    parent, token, kept = (np.take_along_axis(each, on, 1) for each in (parent, token, values))
    bound = kept[:, 0] / penalty(max_len + 1, alpha)
    groups = [b for b in range(B) if not _is_finished(ended[live.rows[b]], k, bound[b])]
    chosen = np.array(groups, np.intp)                        # groups that go on
    ids = np.take_along_axis(live.ids, parent[:, :, None], 1)[chosen]
    ids[:, :, t] = token[chosen]
    state = live.state.select((chosen[:, None] * k + parent[chosen]).reshape(-1))
    return _Beams(live.rows[chosen], kept[chosen], ids, state)


def _collect(ended: list[Hypothesis], ids: list[int], log_p: float, alpha: float, k: int) -> None:
    """Add a hypothesis to those of its source, and keep the k best."""
    ended.append(Hypothesis(ids, log_p, log_p / penalty(len(ids) + 1, alpha)))
    ended.sort(key=lambda hypothesis: -hypothesis.score)
    del ended[k:]


def _is_finished(hypotheses: list[Hypothesis], beam: int, bound: float) -> bool:
    return bool(np.isneginf(bound)) or (len(hypotheses) == beam and hypotheses[-1].score >= bound)


def next_logits(state: DecoderState, ids: Array, t: int) -> Array:
    """`advance`, but a NaN, which every comparison would take for some token, is an error."""
    logits = advance(state, ids, t)
    if not np.isfinite(logits).all():
        raise FloatingPointError(f"logits of position {t}: expected finite numbers, got some that are not")
    return logits


def penalty(n: int, alpha: float) -> float:
    """((5 + n)/6)^α, what the log-probability of n tokens is divided by."""
    return ((5 + n) / 6) ** alpha


def log_softmax(logits: Array) -> Array:
    """log p = z − log Σ exp z, row by row."""
    z = logits - row_maximum(logits)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def top(values: Array, k: int) -> Array:
    """The indices (B, k) of the k greatest values (B, n) of each row, the greatest first."""
    part = np.argpartition(-values, min(k, values.shape[1] - 1), axis=1)[:, :k]
    order = np.lexsort((part, -np.take_along_axis(values, part, 1)), axis=1)
    return np.take_along_axis(part, order, 1)


def check_search(model: Transformer, src: Array, max_len: int) -> None:
    """Raise unless src holds ids (B, N_S) of the source vocabulary and max_len is not negative."""
    check_ids("src", src, model.config.src_vocab)
    if src.ndim != 2:
        raise ValueError(f"src: expected ids (B, N_S), got {src.shape}")
    check_size("max_len", max_len)
