"""From source texts to target texts, with a trained model and the codec of its task."""

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

#: The search ends this many symbols beyond the longest target of the training data.
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
    """Return one target text for each source text.

    - model, codec: as `npattn.runs.load_model` returns them.
    - texts: the source texts.
    - beam: 1 for greedy search; more for the best result of a beam search of that width.
    - batch_size: how many texts go through the model together, at most. They have similar lengths.
    - workers: threads that share the texts; None for the default of the search.

    Raises ValueError for a text without symbols, and for a number below 1.

    >>> from npattn.runs import load_model
    >>> model, codec, _ = load_model("g2p")
    >>> predict(model, codec, ["quick", "brown"], beam=2)
    ['K W IH K', 'B R AW N']
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
    """Return the attention weights (H, N_Q, N_X) of a source text and a target text, by layer name.

    - model, codec: as `npattn.runs.load_model` returns them.
    - source: the text that the encoder reads.
    - target: the text that the decoder writes; the model need not prefer it.

    Row i of a decoder's weights is the one with which symbol i of the target is chosen: the decoder has read the
    symbols before it. So in its self-attention column 0 is ``<bos>``, and column i is symbol i − 1.

    Raises ValueError for a source without symbols.

    >>> from npattn.runs import load_model
    >>> model, codec, _ = load_model("g2p")
    >>> weights = attention_weights(model, codec, "knight", "N AY T")
    >>> weights["decoder.2.cross_attention"].shape             # (H, N_T, N_S): 4 heads, 3 phonemes, 6 letters
    (4, 3, 6)
    """
    src = np.array([codec.encode_source(source)])
    ids = codec.target_vocabulary.encode(tokenize(target, codec.target_unit))
    tgt = np.array([[BOS, *ids]])[:, : len(ids)]              # the last symbol is chosen, not read
    _, cache = model.forward(src, tgt)
    return {name: A[0] for name, A in cache.attention_weights().items()}
