"""The check of the arguments of both searches."""

from __future__ import annotations

from npattn._internal.checks import Array, check_room, check_size
from npattn.transformer.batch import check_ids_of_batch
from npattn.transformer.model import Transformer


def check_search(model: Transformer, src: Array, max_len: int, workers: int | None) -> int:
    """Return max_len; raise unless it is ≥ 0, src holds ids (B, N_S) of the vocabulary, and workers are None or ≥ 1."""
    if not isinstance(model, Transformer):
        raise TypeError(f"model: expected a Transformer, got {type(model).__name__}")
    check_ids_of_batch("src", src, model.config.src_vocab)
    max_len = check_size("max_len", max_len)
    check_room("max_len", len(src) * (max_len + 1))
    if workers is not None:
        check_size("workers", workers, least=1)
    return max_len
