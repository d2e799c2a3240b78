"""Checks of parameters and of the ids of a batch. They run once, where these enter the model."""

from __future__ import annotations

import numpy as np

from npattn._internal.checks import Array, Params, Spec, check_ids, differences, layout_of
from npattn.attention.masks import padding_mask
from npattn.transformer.config import TransformerConfig

#: Names alone are compared: each layer checks shapes and dtypes.
ANY_ARRAY: Spec = ((), np.dtype(float))


def check_ids_of_batch(symbol: str, ids: Array, size: int) -> None:
    """Raise unless these are integer ids (B, N) from 0 to size − 1."""
    check_ids(symbol, ids, size)
    if ids.ndim != 2:
        raise ValueError(f"{symbol}: expected ids (B, N), got {ids.shape}")


def check_inputs(params: Params, src: Array, tgt: Array, config: TransformerConfig) -> None:
    """Raise unless these are arrays under the names of the parameters, and a batch."""
    names = dict.fromkeys(layout_of("params", params), ANY_ARRAY)
    if wrong := differences(names, dict.fromkeys(config.shapes(), ANY_ARRAY)):
        raise ValueError(f"params: {wrong}")
    check_batch(src, tgt, config)


def target_mask(tgt: Array, config: TransformerConfig) -> Array:
    """Return the pad mask (B, 1, 1, N_T) of the targets. What they start with is no pad, even if it is pad_id."""
    mask = padding_mask(tgt, pad_id=config.pad_id)
    if config.bos_id == config.pad_id:
        mask[..., :1] = True
    return mask


def check_batch(src: Array, tgt: Array, config: TransformerConfig) -> None:
    """Raise unless src and tgt are integer ids (B, N_S) and (B, N_T) of their vocabularies."""
    check_ids_of_batch("src", src, config.src_vocab)
    check_ids_of_batch("tgt", tgt, config.tgt_vocab)
    if len(src) != len(tgt):
        raise ValueError(f"tgt: expected (B={len(src)}, N_T), got {tgt.shape}")
    if config.max_length is not None and max(src.shape[1], tgt.shape[1]) > config.max_length:
        raise ValueError(f"src, tgt: expected at most max_length={config.max_length}, got {src.shape}, {tgt.shape}")


def check_pairs(src: Array, tgt: Array, config: TransformerConfig) -> None:
    """Raise unless src and tgt pass `check_batch`, and tgt has room for <bos> and <eos>."""
    check_batch(src, tgt, config)
    if tgt.shape[1] < 2:
        raise ValueError(f"tgt: expected ids (B, N_T) from <bos> to <eos>, at least two, got {tgt.shape}")
