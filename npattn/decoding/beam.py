"""Beam search: keep the k = `beam` best beginnings of each source and extend all of them by every token.

An extension by <eos> that is among the k best is an ended hypothesis. With k = 1 and α = 0 this is greedy search. Ended
hypotheses are ranked by the length-normalised score

    score = log P(ids, <eos> | src) / ((5 + n) / 6)^α,    n tokens with <eos>, α = length_penalty

A source is finished when no continuation of its beginnings can score above its k best ended hypotheses. As a beginning
grows, log P only falls, so no continuation can score above log P / ((5 + n_max)/6)^α, n_max = max_len + 1.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §6.1; the penalty is equation 14 of Wu et al. (2016),
arXiv:1609.08144.

By hand: a model that ignores its source. With γ = 0 its last norm is β = (1, 0), so the logits are column 0 of W_E, and
<eos>, 3 and 4 have the probabilities 1/3, 1/2 and 1/6 at every position. Greedy search takes 3 until the target must
end. Beam search finds the likeliest target: it is empty and has the probability 1/3. The next is "3", with 1/2 · 1/3.

>>> from npattn.transformer import TransformerConfig
>>> model = Transformer(TransformerConfig(5, 5, d_model=2, n_heads=1, d_ff=2, norm="pre"))
>>> model.params["decoder.norm.gamma"][:], model.params["decoder.norm.beta"][:] = 0, (1, 0)
>>> model.params["target_embedding.W_E"][:, 0] = -99, -99, np.log(1 / 3), np.log(1 / 2), np.log(1 / 6)
>>> for hypothesis in beam_search(model, np.array([[4]]), beam=2, max_len=3, length_penalty=0.0)[0]:
...     print(hypothesis.ids, round(np.exp(hypothesis.log_probability), 3))
[] 0.333
[3] 0.167
"""

from __future__ import annotations

import numpy as np

from npattn._internal.checks import Array, check_number, check_room, check_size
from npattn._internal.system.underflow import ignore_underflow
from npattn.decoding.cached_decoder import CachedDecoder
from npattn.decoding.checks import check_search
from npattn.decoding.hypotheses import Ended, Hypothesis, extend, log_softmax, penalty
from npattn.decoding.workers import in_workers
from npattn.transformer.config import TransformerConfig
from npattn.transformer.model import Transformer


def beam_search(
    model: Transformer,
    src: Array,
    beam: int = 4,
    max_len: int = 64,
    length_penalty: float = 0.6,
    *,
    workers: int | None = None,
) -> list[list[Hypothesis]]:
    """Return up to `beam` hypotheses for each row of src, the best first.

    - model: the trained Transformer.
    - src: ids (B, N_S) of the sources, <pad> after the end of short rows.
    - beam: k, the number of beginnings that are kept of each source.
    - max_len: the largest number of ids of a target; a beginning of this length is extended by <eos> alone.
    - length_penalty: α; 0 ranks by log P alone.
    - workers: threads that share the rows; None chooses. The results are the same up to rounding.

    Raises what `npattn.greedy_search` raises, and ValueError for a beam below 1 or a negative length_penalty.
    """
    max_len = check_search(model, src, max_len, workers)
    beam = check_size("beam", beam, least=1)
    check_room("beam", len(src) * beam * (beam + model.config.tgt_vocab))
    alpha = check_number("length_penalty", length_penalty, 0, 16)   # beyond 16, ((5 + n)/6)^α could overflow
    return in_workers(lambda rows: _beam(model, rows, beam, max_len, alpha), src, workers, beam)


def _beam(model: Transformer, src: Array, k: int, max_len: int, alpha: float) -> list[list[Hypothesis]]:
    config = model.config
    ended = Ended(len(src), k, max_len)
    rows = np.arange(len(src))                                # (B,)    the sources that are not finished
    log_p = np.full((len(src), k), -np.inf)                   # (B, k)  of each beginning
    log_p[:, 0] = 0                                           # the empty beginning counts once, not k times
    ids = np.full((len(src), k), config.bos_id)
    decoder = CachedDecoder(model.params, src, config, k)
    for t in range(max_len + 1):
        if not len(rows):
            break
        extensions = log_softmax(decoder.step(ids.reshape(-1)).astype(np.float64))   # (B·k, V)
        forbid(extensions, config, only_eos=t == max_len)
        log_p, parents, ids = extend(log_p, extensions)       # (B, 2k): at most k end, so at least k do not
        ends = ids == config.eos_id
        ended.add(rows, np.where(ends, log_p, -np.inf)[:, :k], parents[:, :k], t, alpha)
        best = np.argsort(ends, kind="stable")[:, :k]         # (B, k)  the best that have not ended
        log_p, parents, ids = (np.take_along_axis(each, best, 1) for each in (log_p, parents, ids))
        ended.record(rows, ids, parents, t)
        decoder.reorder(parents)
        unfinished = np.flatnonzero(ended.score[rows, -1] < log_p[:, 0] / penalty(max_len + 1, alpha))
        if len(unfinished) < len(rows):
            kept = decoder.keep(unfinished)
            rows, log_p, ids = rows[kept], log_p[kept], ids[kept]
    return ended.hypotheses()


def forbid(extensions: Array, config: TransformerConfig, only_eos: bool) -> None:
    """Give <pad> and <bos>, or all but <eos>, the log-probability −∞."""
    if only_eos:
        extensions[:, np.arange(config.tgt_vocab) != config.eos_id] = -np.inf
    else:
        extensions[:, [config.pad_id, config.bos_id]] = -np.inf


beam_search = ignore_underflow(beam_search)
