"""Checks of the arguments of both searches: the models, then the rest."""

from __future__ import annotations

from collections.abc import Sequence

from npattn._internal.checks import Array, check_room, check_size
from npattn.transformer.batch import check_ids_of_batch
from npattn.transformer.model import Transformer, check_model

#: What models of an ensemble share: the ids that they read and write.
SHARED = ("src_vocab", "tgt_vocab", "pad_id", "bos_id", "eos_id")


def check_models(model: Transformer, ensemble: Sequence[Transformer]) -> list[Transformer]:
    """Return the model and those that choose with it; raise unless they are models of the same ids."""
    check_model(model)
    if isinstance(ensemble, Transformer) or not isinstance(ensemble, Sequence):
        raise TypeError(f"ensemble: expected a sequence of Transformers, got {type(ensemble).__name__}")
    for i, other in enumerate(ensemble):
        if not isinstance(other, Transformer):
            raise TypeError(f"ensemble[{i}]: expected a Transformer, got {type(other).__name__}")
        for name in SHARED:
            wanted, got = getattr(model.config, name), getattr(other.config, name)
            if got != wanted:
                raise ValueError(f"ensemble[{i}]: expected {name}={wanted} as in the model, got {got}")
    return [model, *ensemble]


def check_search(
    models: Sequence[Transformer], src: Array, max_len: int, workers: int | None, ends_with_eos: bool
) -> int:
    """Return max_len; raise unless it is ≥ 0, src holds ids (B, N_S) of the vocabulary, and workers are None or ≥ 1.

    With a limit of positions, src must fit, and so must what the decoder reads: <bos> and max_len ids if <eos> follows.
    """
    check_ids_of_batch("src", src, models[0].config.src_vocab)
    max_len = check_size("max_len", max_len)
    limit = min((model.config.max_length for model in models if model.config.max_length is not None), default=None)
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
