"""Greedy search: at every position the token of the highest probability, until <eos>.

All sources advance together on key/value caches, and a source whose target has ended is dropped. Worker threads share
the rows of large batches, see `npattn.decoding.workers`. `npattn.decoding.beam` keeps several beginnings of each
target.

>>> from npattn.transformer import TransformerConfig
>>> model = Transformer(TransformerConfig(5, 5, d_model=2, n_heads=1, d_ff=2, norm="pre"))
>>> model.params["decoder.norm.gamma"][:], model.params["decoder.norm.beta"][:] = 0, (1, 0)
>>> model.params["target_embedding.W_E"][:, 0] = -99, -99, 1, 2, 0             # logits at every position: 3 wins
>>> greedy_search(model, np.array([[4]]), max_len=3)
[[3, 3, 3]]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npattn._internal.checks import Array
from npattn.decoding.checks import check_models, check_search
from npattn.decoding.ensemble import decoder_of
from npattn.decoding.forbidden import Forbidden, Words, check_words
from npattn.decoding.workers import in_workers
from npattn.transformer.model import Transformer


def greedy_search(
    model: Transformer,
    src: Array,
    max_len: int,
    *,
    bad_words_ids: Sequence[Sequence[int]] | None = None,
    forced_bos_id: int | None = None,
    ensemble: Sequence[Transformer] = (),
    workers: int | None = None,
) -> list[list[int]]:
    """Return the ids of one target for each row of src, without <bos> and <eos>.

    - model: the trained Transformer.
    - src: ids (B, N_S) of the sources, <pad> after the end of short rows.
    - max_len: the most ids of a target.
    - bad_words_ids: sequences of ids that no target may hold; None for <pad> and <bos>.
    - forced_bos_id: the first id of every target; None for none.
    - ensemble: more models of the same ids, that choose together with the model, see `npattn.decoding.ensemble`.
    - workers: threads that share the rows; None chooses. The results are the same up to rounding.

    `generate` of Hugging Face finds the same with max_new_tokens = max_len, bad_words_ids=[] where it has none.

    Raises ValueError for a src that is not (B, N_S), a negative max_len and an ensemble of other ids, TypeError and
    IndexError for ids of src and of bad words, FloatingPointError when the model's logits are not finite.
    """
    models = check_models(model, ensemble)
    max_len = check_search(models, src, max_len, workers, False)
    check_words(bad_words_ids, forced_bos_id, model.config.tgt_vocab)
    return in_workers(lambda rows: _greedy(models, rows, max_len, bad_words_ids, forced_bos_id), src, workers, 1)


def _greedy(
    models: Sequence[Transformer], src: Array, max_len: int, words: Words | None = None, first: int | None = None
) -> list[list[int]]:
    config = models[0].config
    tokens = np.full((len(src), max_len + 1), config.eos_id)  # (B, max_len + 1), the last column stays <eos>
    rows = np.arange(len(src))                                # the sources whose targets have not ended
    ids = np.full(len(src), config.bos_id)
    forbidden = Forbidden(words, first, config, ids[:, None].shape)
    decoder = decoder_of(models, src)
    for t in range(max_len):
        if not len(rows):
            break
        ids = forbidden.apply(decoder.step(ids)).argmax(-1)   # (rows,)
        forbidden.follow(np.zeros((len(rows), 1), np.intp), ids[:, None])
        tokens[rows, t] = ids
        unfinished = np.flatnonzero(ids != config.eos_id)
        if len(unfinished) < len(rows):
            kept = decoder.keep(unfinished)
            rows, ids = rows[kept], ids[kept]
            forbidden.keep(kept)
    return [row[: row.index(config.eos_id)] for row in tokens.tolist()]
