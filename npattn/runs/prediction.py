"""From texts to texts: a trained model and the codec of its task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npattn._internal.checks import Array
from npattn.decoding.beam import beam_search
from npattn.decoding.greedy import greedy_search
from npattn.tasks import Codec, prediction_batches
from npattn.tasks.codec import tokenize
from npattn.tasks.vocabulary import BOS
from npattn.transformer import Transformer

#: Targets longer than the longest in training by this many symbols are not looked for.
MARGIN = 4


def predict(
    model: Transformer,
    codec: Codec,
    texts: Sequence[str],
    *,
    beam: int = 1,
    batch_size: int = 256,
    workers: int | None = None,
) -> list[str]:
    """Return one target text for each source text: greedy for `beam=1`, else the best of a beam search.

    Texts of like length go through the model together, shared by `workers` threads (None: as the search chooses).
    Raises ValueError for a text without symbols.
    """
    max_len = codec.max_target_length + MARGIN
    outputs = [""] * len(texts)
    for rows, src in prediction_batches([codec.encode_source(text) for text in texts], batch_size):
        if beam == 1:
            found = greedy_search(model, src, max_len, workers=workers)
        else:
            found = [hypotheses[0].ids for hypotheses in beam_search(model, src, beam, max_len, workers=workers)]
        for row, ids in zip(rows, found, strict=True):
            outputs[row] = codec.decode_target(ids)
    return outputs


def attention_weights(model: Transformer, codec: Codec, source: str, target: str) -> dict[str, Array]:
    """Return the weights (H, N_Q, N_X) with which the model writes `target` after reading `source`, by layer name.

    Row i of a decoder's weights is that with which symbol i of the target was chosen, when the symbols before it had
    been read; in its self-attention column 0 is therefore ``<bos>`` and column i symbol i − 1.
    """
    symbols = tokenize(target, codec.target_unit)
    src = np.array([codec.encode_source(source)])
    tgt = np.array([[BOS, *codec.target_vocabulary.encode(symbols)]])
    _, cache = model.forward(src, tgt)
    weights = {name: A[0] for name, A in cache.attention_weights().items()}
    for name, A in weights.items():
        if name.startswith("decoder"):
            weights[name] = A[:, : len(symbols)]              # the last row would choose <eos>
        if name.startswith("decoder") and name.endswith("self_attention"):
            weights[name] = A[:, : len(symbols), : len(symbols)]
    return weights
