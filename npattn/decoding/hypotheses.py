"""The arithmetic of one step of beam search, for all sources at once, and the hypotheses that have ended.

No ids are copied from step to step. For each position, the token of each beam is recorded, and which beam it extends.
In the end every hypothesis is read backwards along this record.
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
    """The k best ended hypotheses of each of n sources, the best first. A score of −∞ marks an empty place."""

    def __init__(self, n: int, k: int, max_len: int) -> None:
        self.log_p, self.score = np.full((2, n, k), -np.inf)
        self.beams, self.lengths = np.zeros((2, n, k), np.intp)    # the beam that ended, and the position of its <eos>
        self.tokens, self.parents = np.zeros((2, max_len + 1, n, k), np.intp)

    def record(self, sources: Array, tokens: Array, parents: Array, t: int) -> None:
        """Record the tokens (B, k) at position t, and the beam (B, k) of position t − 1 that each extends."""
        self.tokens[t, sources], self.parents[t, sources] = tokens, parents

    def add(self, sources: Array, log_p: Array, beams: Array, t: int, divisor: float) -> None:
        """Add what ended at position t: log P (B, j), −∞ where nothing did, and the beam (B, j) of position t − 1.

        Scores are log P / divisor.
        """
        new = (log_p, log_p / divisor, beams, np.full_like(beams, t))
        fields = (self.log_p, self.score, self.beams, self.lengths)
        both = [np.concatenate([field[sources], values], axis=1) for field, values in zip(fields, new, strict=True)]
        best = np.argsort(-both[1], kind="stable")[:, : self.score.shape[1]]
        for field, values in zip(fields, both, strict=True):
            field[sources] = np.take_along_axis(values, best, 1)

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Return the hypotheses of each source, the best first."""
        found: list[list[Hypothesis]] = [[] for _ in self.score]
        ids = self._ids()
        for row, j in zip(*np.nonzero(np.isfinite(self.score)), strict=True):
            own = ids[row, j, : self.lengths[row, j]].tolist()
            found[row].append(Hypothesis(own, float(self.log_p[row, j]), float(self.score[row, j])))
        return found

    def _ids(self) -> Array:
        """Return the ids (n, k, max_len) of all hypotheses, read backwards. Those after an end mean nothing."""
        ids, beams = np.zeros((*self.score.shape, len(self.tokens)), np.intp), self.beams
        for t in reversed(range(len(self.tokens))):
            ids[:, :, t] = np.take_along_axis(self.tokens[t], beams, 1)
            before = np.take_along_axis(self.parents[t], beams, 1)
            beams = np.where(t < self.lengths, before, beams)
        return ids


def extend(log_p: Array, extensions: Array) -> tuple[Array, Array, Array]:
    """Return the 2k best extensions of each group, the best first: their log P, beams and tokens, all (B, 2k).

    log_p (B, k) is log P of each beginning, `extensions` (B·k, V) log P of each next token.
    """
    B, k = log_p.shape
    totals = (log_p[:, :, None] + extensions.reshape(B, k, -1)).reshape(B, -1)   # (B, k·V)
    best = top(totals, 2 * k)
    beams, tokens = np.divmod(best, extensions.shape[1])
    return np.take_along_axis(totals, best, 1), beams, tokens


def penalty(n: int, alpha: float) -> float:
    """((5 + n)/6)^α, the divisor of the log-probability of n tokens."""
    return float(((5 + n) / 6) ** alpha)


def log_softmax(logits: Array) -> Array:
    """log p = z − log Σ exp z, row by row."""
    z: Array = logits - row_maximum(logits)
    z -= np.log(np.exp(z).sum(-1, keepdims=True))
    return z


def top(values: Array, k: int) -> Array:
    """The indices (B, k) of the k greatest values (B, n) of each row, the greatest first; of equal ones the first."""
    rows = np.arange(len(values))[:, None]                    # indexing takes half the time of take_along_axis
    best = np.argpartition(-values, min(k, values.shape[1] - 1))[:, : k + 1]               # one more, to see ties
    best.sort()
    best = best[rows, (-values[rows, best]).argsort(kind="stable")]
    ends = values[rows, best[:, k - 1 :]]                     # the last of the k, and the one more
    tied = np.flatnonzero(ends[:, :1] == ends[:, 1:])         # argpartition takes any of equal values
    if len(tied):
        best[tied] = np.argsort(-values[tied], kind="stable")[:, : k + 1]
    return best[:, :k]
