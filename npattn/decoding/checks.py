"""The check of the arguments of both searches."""

from __future__ import annotations

from npattn._internal.checks import Array, check_room, check_size
from npattn.transformer.batch import check_ids_of_batch
from npattn.transformer.model import Transformer, check_model


def check_search(model: Transformer, src: Array, max_len: int, workers: int | None, ends_with_eos: bool) -> int:
    """Return max_len; raise unless it is ≥ 0, src holds ids (B, N_S) of the vocabulary, and workers are None or ≥ 1.

    With a limit of positions, src must fit, and so must what the decoder reads: <bos> and max_len ids if <eos> follows.
    """
    check_model(model)
    check_ids_of_batch("src", src, model.config.src_vocab)
    max_len, limit = check_size("max_len", max_len), model.config.max_length
    if limit is not None:
        if src.shape[1] > limit:
            raise ValueError(f"src: expected at most max_length={limit} in a row, got {src.shape}")
        most = limit - ends_with_eos
        if max_len > most:
            raise ValueError(f"max_len: expected at most {most} with max_length={limit}, got {max_len}")
    check_room("max_len", len(src) * (max_len + 1))
    if workers is not None:
        check_size("workers", workers, least=1)
    return max_len
