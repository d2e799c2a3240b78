"""Beam search: keep the k = `beam` best beginnings of each source and extend all of them by every token.

An extension by <eos> that is among the k best is an ended hypothesis. With k = 1 and α = 0 this is greedy search. Ended
hypotheses are ranked by the length-normalised score

    score = log P(ids, <eos> | src) / ((5 + n) / 6)^α,    n tokens with <eos>, α = length_penalty

A source is finished when no continuation of its beginnings can score above its k best ended hypotheses. As a beginning
grows, log P only falls, so no continuation can score above log P / ((5 + n_max)/6)^α, n_max = max_len + 1.

**Conventions**  Hugging Face's `generate` with num_beams=k differs by default. These options make it the same:

    normalisation="power"          score = log P / n^α; its length_penalty=1.0 is α = 1
    early_stopping=False           n_max is the length of the beginning at hand, so a longer one that would score better
                                   may be missed; True: finished as soon as k hypotheses have ended; "never" is exact
    ending="forced"                its forced_eos_token_id: <eos> counts with log P = 0 at the last position; its
                                   max_new_tokens is max_len + 1
    ending="open"                  without that: a beginning of max_len ids counts as it is, without <eos>; its
                                   max_new_tokens is max_len
    bad_words_ids=[]               where it has none; a forced_bos_id counts with log P = 0

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

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from npattn._internal.checks import Array, check_choice, check_flag, check_number, check_room, check_size
from npattn._internal.system.underflow import ignore_underflow
from npattn.decoding.checks import check_models, check_search
from npattn.decoding.ensemble import decoder_of
from npattn.decoding.forbidden import Forbidden, check_words
from npattn.decoding.hypotheses import Ended, Hypothesis, extend, log_softmax, penalty
from npattn.decoding.workers import in_workers
from npattn.transformer.model import Transformer


def beam_search(
    model: Transformer,
    src: Array,
    beam: int = 4,
    max_len: int = 64,
    length_penalty: float = 0.6,
    *,
    normalisation: Literal["gnmt", "power"] = "gnmt",
    early_stopping: bool | Literal["never"] = "never",
    ending: Literal["scored", "forced", "open"] = "scored",
    bad_words_ids: Sequence[Sequence[int]] | None = None,
    forced_bos_id: int | None = None,
    ensemble: Sequence[Transformer] = (),
    workers: int | None = None,
) -> list[list[Hypothesis]]:
    """Return up to `beam` hypotheses for each row of src, the best first.

    - model: the trained Transformer.
    - src: ids (B, N_S) of the sources, <pad> after the end of short rows.
    - beam: k, the number of beginnings that are kept of each source.
    - max_len: the largest number of ids of a target; a beginning of this length is extended by <eos> alone.
    - length_penalty: α; 0 ranks by log P alone.
    - normalisation: "gnmt" divides by ((5 + n)/6)^α, "power" by n^α.
    - early_stopping: "never", False or True: when a source is finished, see above.
    - ending: "scored", "forced" or "open": what becomes of a beginning of max_len ids, see above.
    - bad_words_ids: sequences of ids that no target may hold; None for <pad> and <bos>.
    - forced_bos_id: the first id of every target; None for none.
    - ensemble: more models of the same ids, that choose together with the model, see `npattn.decoding.ensemble`.
    - workers: threads that share the rows; None chooses. The results are the same up to rounding.

    Raises what `npattn.greedy_search` raises, and ValueError for a beam below 1 or a negative length_penalty.
    """
    check_choice("ending", ending, ("scored", "forced", "open"))
    models = check_models(model, ensemble)
    max_len = check_search(models, src, max_len, workers, ending != "open")
    if ending == "open":
        check_size("max_len", max_len, least=1)
    beam = check_size("beam", beam, least=1)
    check_room("beam", len(src) * beam * (beam + model.config.tgt_vocab))
    alpha = check_number("length_penalty", length_penalty, 0, 16)   # beyond 16, ((5 + n)/6)^α could overflow
    check_choice("normalisation", normalisation, ("gnmt", "power"))
    if early_stopping != "never":
        early_stopping = check_flag("early_stopping", early_stopping)
    check_words(bad_words_ids, forced_bos_id, model.config.tgt_vocab)
    rules = Rules(max_len, alpha, normalisation, early_stopping, ending, bad_words_ids, forced_bos_id)
    return in_workers(lambda rows: _beam(models, rows, beam, rules), src, workers, beam)


class Rules(NamedTuple):
    """The options of a search, as `beam_search` has them."""

    max_len: int
    alpha: float
    normalisation: str = "gnmt"
    early_stopping: bool | str = "never"
    ending: str = "scored"
    words: Sequence[Sequence[int]] | None = None
    first: int | None = None

    @property
    def last(self) -> int:
        """The last position of a target: that of <eos> after max_len ids, or of the last id itself."""
        return self.max_len - (self.ending == "open")

    def penalty(self, n: int) -> float:
        """What divides the log-probability of n tokens."""
        return penalty(n, self.alpha) if self.normalisation == "gnmt" else float(n) ** self.alpha


def _beam(models: Sequence[Transformer], src: Array, k: int, rules: Rules) -> list[list[Hypothesis]]:
    config = models[0].config
    ended = Ended(len(src), k, rules.max_len)
    rows = np.arange(len(src))                                # (B,)    the sources that are not finished
    log_p = np.full((len(src), k), -np.inf)                   # (B, k)  of each beginning
    log_p[:, 0] = 0                                           # the empty beginning counts once, not k times
    ids = np.full((len(src), k), config.bos_id)
    forbidden = Forbidden(rules.words, rules.first, config, ids.shape)
    decoder = decoder_of(models, src, k)
    for t in range(rules.last + 1):
        if not len(rows):
            break
        extensions = forbidden.apply(log_softmax(decoder.step(ids.reshape(-1)).astype(np.float64)))   # (B·k, V)
        if t == rules.last and rules.ending != "open":
            only_eos(extensions, config.eos_id, rules.ending == "forced")
        log_p, parents, ids = extend(log_p, extensions)       # (B, 2k): at most k end, so at least k do not
        ends, divisor = ids == config.eos_id, rules.penalty(t + 1)
        ended.add(rows, np.where(ends, log_p, -np.inf)[:, :k], parents[:, :k], t, divisor)
        best = np.argsort(ends, kind="stable")[:, :k]         # (B, k)  the best that have not ended
        log_p, parents, ids = (np.take_along_axis(each, best, 1) for each in (log_p, parents, ids))
        ended.record(rows, ids, parents, t)
        if t == rules.last and rules.ending == "open":        # those without <eos> count too
            ended.add(rows, log_p, np.broadcast_to(np.arange(k), log_p.shape), t + 1, divisor)
        decoder.reorder(parents)
        forbidden.follow(parents, ids)
        unfinished = np.flatnonzero(can_improve(ended.score[rows, -1], log_p[:, 0], t + 1, rules))
        if len(unfinished) < len(rows):
            kept = decoder.keep(unfinished)
            rows, log_p, ids = rows[kept], log_p[kept], ids[kept]
            forbidden.keep(kept)
    return ended.hypotheses()


def only_eos(extensions: Array, eos_id: int, is_forced: bool) -> None:
    """Give all tokens but <eos> the log-probability −∞, and 0 to <eos> if it is forced."""
    kept = np.zeros(len(extensions)) if is_forced else extensions[:, eos_id].copy()
    extensions[...] = -np.inf
    extensions[:, eos_id] = kept


def can_improve(worst: Array, log_p: Array, n: int, rules: Rules) -> Array:
    """Return which sources (B,) go on. `worst`: scores of their k-th hypotheses; log_p, n: of their best beginnings."""
    if rules.early_stopping is True:
        return np.isneginf(worst)
    most = rules.last + 1 if rules.early_stopping == "never" else n
    return worst < log_p / rules.penalty(most)


beam_search = ignore_underflow(beam_search)
