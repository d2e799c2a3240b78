"""Greedy and beam search without caches: the whole model runs from the start at every step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pytest

from npattn import Hypothesis, Transformer
from npattn._internal.checks import Array
from support.transformer_toys import toy_model

PAD, BOS, EOS = 0, 1, 2


class Forward(Protocol):
    """What the slow searches need of a model."""

    def forward(self, src: Array, tgt: Array, /) -> tuple[Array, Any]: ...


def eager_model(seed: int, tgt_vocab: int = 5, dtype: Any = np.float64, **options: Any) -> Transformer:
    """Return a model with so few symbols that targets of all lengths end with <eos>."""
    sizes = {"tgt_vocab": tgt_vocab, "n_encoder_layers": 1, "n_decoder_layers": 1}
    return toy_model(seed, dtype, **sizes | {"tie": "none", "norm": "pre"} | options)


def log_p_of_next(model: Forward, src: Array, beginnings: list[list[int]]) -> Array:
    """Return log P (beginnings, N, V) of every next token, from the whole model without caches; src is one row."""
    tgt = np.array([[BOS, *ids] for ids in beginnings])
    z = model.forward(np.repeat(src, len(tgt), axis=0), tgt)[0].astype(np.float64)
    z -= z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def slow_greedy(model: Forward, src: Array, max_len: int) -> list[list[int]]:
    """Append the best token to every row and run the whole model again. In the end, cut each row at <eos>."""
    tgt = np.full((len(src), 1), BOS)
    for _ in range(max_len):
        logits = model.forward(src, tgt)[0][:, -1]
        logits[:, [PAD, BOS]] = -np.inf
        tgt = np.column_stack([tgt, logits.argmax(-1)])
    return [list(itertools.takewhile(lambda token: token != EOS, row)) for row in tgt[:, 1:].tolist()]


def score(n: int, log_p: float, alpha: float) -> float:
    return log_p / ((5 + n + 1) / 6) ** alpha


def slow_steps(
    model: Forward, src: Array, beam: int, max_len: int, alpha: float
) -> Iterator[tuple[float, list[Hypothesis]]]:
    """Beam search as the module describes it, on lists, without caches and without an early end.

    Yields for each position log P of the best beginning and the best ended hypotheses so far.
    """
    beginnings: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[Hypothesis] = []
    for t in range(max_len + 1):
        extensions = []
        table = log_p_of_next(model, src, [ids for _, ids in beginnings])[:, -1]
        for (total, ids), log_p in zip(beginnings, table, strict=True):
            allowed = [EOS] if t == max_len else range(EOS, len(log_p))
            extensions += [(total + log_p[v], [*ids, v]) for v in allowed]
        extensions.sort(key=lambda extension: -extension[0])
        ends = [(total, ids[:-1]) for total, ids in extensions[:beam] if ids[-1] == EOS]
        ended += [Hypothesis(ids, total, score(len(ids), total, alpha)) for total, ids in ends]
        ended = sorted(ended, key=lambda hypothesis: -hypothesis.score)[:beam]
        beginnings = [(total, ids) for total, ids in extensions if ids[-1] != EOS][:beam]
        yield max((total for total, _ in beginnings), default=-np.inf), ended


def slow_beam(model: Forward, src: Array, beam: int, max_len: int, alpha: float) -> list[Hypothesis]:
    return list(slow_steps(model, src, beam, max_len, alpha))[-1][1]


def assert_alike(found: list[Hypothesis], expected: list[Hypothesis], tolerance: float = 1e-10) -> None:
    assert [hypothesis.ids for hypothesis in found] == [hypothesis.ids for hypothesis in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=tolerance)
        assert one.score == pytest.approx(other.score, abs=tolerance)
