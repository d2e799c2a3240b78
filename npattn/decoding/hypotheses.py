"""What beam search does with the numbers of one step, for all sources at once, and what it keeps of those that ended.

No ids are copied from step to step: for each position the searches remember the tokens of the beams and which beam
each came from, and at the end follow every ended hypothesis back to its beginning.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.layers.kernels import row_maximum


class Hypothesis(NamedTuple):
    """One target: its ids without <bos> and <eos>, its log-probability with <eos> in nats, and its normalised score."""

    ids: list[int]
    log_probability: float
    score: float


class Ended:
    """The `k` best ended hypotheses of each of n sources, the best first; a score of −∞ marks an empty place."""

    def __init__(self, n: int, k: int, max_len: int) -> None:
        self.log_p, self.score = np.full((2, n, k), -np.inf)
        self.beams, self.lengths = np.zeros((2, n, k), np.intp)    # the beam whose <eos> it was, and its position
        self.tokens, self.parents = np.zeros((2, max_len + 1, n, k), np.intp)

    def remember(self, sources: Array, tokens: Array, parents: Array, t: int) -> None:
        """Note the tokens (B, k) at position t, and the beam (B, k) of position t − 1 that each continues."""
        self.tokens[t, sources], self.parents[t, sources] = tokens, parents

    def add(self, sources: Array, log_p: Array, beams: Array, t: int, alpha: float) -> None:
        """Take in what ended at position t: log P (B, j), −∞ for none, and the beam (B, j) of position t − 1."""
        new = (log_p, log_p / penalty(t + 1, alpha), beams, np.full_like(beams, t))
        fields = (self.log_p, self.score, self.beams, self.lengths)
        both = [np.concatenate([field[sources], values], axis=1) for field, values in zip(fields, new, strict=True)]
        best = np.argsort(-both[1], kind="stable")[:, : self.score.shape[1]]
        for field, values in zip(fields, both, strict=True):
            field[sources] = np.take_along_axis(values, best, 1)

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Return those of each source, the best first."""
        places = zip(*np.nonzero(np.isfinite(self.score)), strict=True)
        found: list[list[Hypothesis]] = [[] for _ in self.score]
        ids = self._ids()
        for row, j in places:
            own = ids[row, j, : self.lengths[row, j]].tolist()
            found[row].append(Hypothesis(own, float(self.log_p[row, j]), float(self.score[row, j])))
        return found

    def _ids(self) -> Array:
        """The ids (n, k, max_len) of all hypotheses, read from their ends; behind an end they mean nothing."""
        ids, beams = np.zeros((*self.score.shape, len(self.tokens)), np.intp), self.beams
        for t in reversed(range(len(self.tokens))):
            ids[:, :, t] = np.take_along_axis(self.tokens[t], beams, 1)
            before = np.take_along_axis(self.parents[t], beams, 1)
            beams = np.where(t < self.lengths, before, beams)
        return ids


def extend(log_p: Array, extensions: Array) -> tuple[Array, Array, Array]:
    """Return the 2k best extensions of each group, the best first: their log P, beams and tokens, all (B, 2k).

    log_p (B, k) is that of each beginning, `extensions` (B·k, V) that of each next token.
    """
    B, k = log_p.shape
    totals = (log_p[:, :, None] + extensions.reshape(B, k, -1)).reshape(B, -1)   # (B, k·V)
    best = top(totals, 2 * k)
    beams, tokens = np.divmod(best, extensions.shape[1])
    return np.take_along_axis(totals, best, 1), beams, tokens


def penalty(n: int, alpha: float) -> float:
    """((5 + n)/6)^α, what the log-probability of n tokens is divided by."""
    return float(((5 + n) / 6) ** alpha)


def log_softmax(logits: Array) -> Array:
    """log p = z − log Σ exp z, row by row."""
    z: Array = logits - row_maximum(logits)
    z -= np.log(np.exp(z).sum(-1, keepdims=True))
    return z


def top(values: Array, k: int) -> Array:
    """The indices (B, k) of the k greatest values (B, n) of each row, the greatest first."""
    part = np.argpartition(-values, min(k, values.shape[1]) - 1)[:, :k]
    order = np.lexsort((part, -np.take_along_axis(values, part, 1)))
    return np.take_along_axis(part, order, 1)
