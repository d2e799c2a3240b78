"""Make npattn/conformance/trained.npz: queries, keys and values of the shipped model of spelling to phonemes.

    python tests/conformance/make_trained.py

The model reads "psychology" in one batch with the shorter "through", and writes their phonemes. From its last layers
are kept, in float32, for each name: `NAME.Q`, `NAME.K`, `NAME.V`, and `NAME.mask` where a mask is more than causal
order. npattn.conformance may not import the model, so the numbers lie in a file.

- `encoder`: its self-attention on "psychology",
- `decoder`: its self-attention on the phonemes of "psychology", in causal order,
- `cross`: its attention from the phonemes of both words to their letters; the mask hides the pads of "through".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import npattn.conformance
from npattn._internal.checks import Array
from npattn.attention.masks import padding_mask
from npattn.runs import load_model
from npattn.transformer.reference import forward

PATH = Path(npattn.conformance.__file__).with_name("trained.npz")
WORDS = {"psychology": "S AY K AA L AH JH IY", "through": "TH R UW"}


def activations() -> dict[str, Array]:
    """Return the arrays of the file by name."""
    model, codec, _ = load_model("g2p")
    src, tgt = (rows(list(map(f, texts)), model.config.pad_id)
                for f, texts in ((codec.encode_source, WORDS), (codec.encode_target, WORDS.values())))
    params = {name: X.astype(np.float64) for name, X in model.params.items()}
    _, c_M, _, c_Y, _ = forward(params, src, tgt[:, :-1], model.config)[1].parts
    (encoder, _), (decoder, cross, _) = c_M[0][-1], c_Y[0][-1]               # the sub-layers of the last layers
    caches = {"encoder": encoder[1], "decoder": decoder[1], "cross": cross[1]}
    kept = {f"{name}.{letter}": getattr(cache, letter) for name, cache in caches.items() for letter in "QKV"}
    found = {name: (X if name.startswith("cross") else X[0]).astype(np.float32) for name, X in kept.items()}
    return found | {"cross.mask": padding_mask(src, pad_id=model.config.pad_id)}


def rows(sequences: list[list[int]], pad_id: int) -> Array:
    """Return ids in rows of one length."""
    made = np.full((len(sequences), max(map(len, sequences))), pad_id)
    for row, ids in zip(made, sequences, strict=True):
        row[: len(ids)] = ids
    return made


if __name__ == "__main__":
    np.savez_compressed(PATH, **activations())
