"""From texts to texts: a trained model and the codec of its task."""

from __future__ import annotations

from collections.abc import Sequence

from npattn.tasks import Codec, prediction_batches
from npattn.transformer import Transformer
from npattn.transformer.search import beam_search, greedy_search

#: Targets longer than the longest in training by this many symbols are not looked for.
MARGIN = 4


def predict(
    model: Transformer, codec: Codec, texts: Sequence[str], *, beam: int = 1, batch_size: int = 256
) -> list[str]:
    """Return one target text for each source text: greedy for `beam=1`, else the best of a beam search.

    Texts of like length go through the model together. Raises ValueError for a text without symbols.
    """
    max_len = codec.max_target_length + MARGIN
    outputs = [""] * len(texts)
    for rows, src in prediction_batches([codec.encode_source(text) for text in texts], batch_size):
        if beam == 1:
            found = greedy_search(model, src, max_len)
        else:
            found = [hypotheses[0].ids for hypotheses in beam_search(model, src, beam, max_len)]
        for row, ids in zip(rows, found, strict=True):
            outputs[row] = codec.decode_target(ids)
    return outputs
