"""Traces of the Transformer: an encoder layer, a decoder layer, and a trained model with a word.

They run `npattn.transformer.reference`, which has the formulas. The parts are named as the parameters are: the
self-attention of the first layer is encoder.0.self_attention. A sub-layer is named after its norm, encoder.0.norm_1.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from npattn.attention import v7_multi_head
from npattn.attention.masks import causal_mask
from npattn.layers.cross_entropy import cross_entropy, cross_entropy_backward
from npattn.learn.trace.run import run, source_function, trace
from npattn.learn.trace.value import Trace
from npattn.runs.prediction import check_length, check_text, encode
from npattn.runs.trained import UNKNOWN, TrainedModel
from npattn.transformer import TransformerConfig, reference
from npattn.transformer.parameters import nested

#: The functions of the reference that are parts of a trace, each with its backward. Those of npattn.layers stay whole.
PARTS = ("embed", "run_layers", "encoder_layer", "decoder_layer", "sub_layer", "attention", "feed_forward")
INSIDE = (
    *(getattr(reference, f"{part}{end}") for part in PARTS for end in ("", "_backward")),
    reference.self_attention_backward,
    v7_multi_head.forward,
    v7_multi_head.backward,
)

#: A model whose layers fit a page.
SMALL = TransformerConfig(5, 5, d_model=4, n_heads=2, d_ff=6, n_encoder_layers=1, n_decoder_layers=1, dropout=0.0)


class Reading(NamedTuple):
    """How a trained model reads a text.

    - trace: of `npattn.transformer.reference.forward`. dlogits and all other gradients are those of the loss.
    - loss: −log P of the target, in nats.
    - source, target: the symbols that were read and that are to be written, with <eos> at the end.
    """

    trace: Trace
    loss: float
    source: list[str]
    target: list[str]


def trace_model(model: TrainedModel, source: str, target: str | None = None) -> Reading:
    """Return the trace of a trained model that reads a text and writes a target, in float64.

    - model: as `npattn.load_model` returns it.
    - source: the text that the encoder reads.
    - target: the text whose −log P is the loss; None for the one that greedy search finds.

    Raises ValueError and TypeError for what is no text, or one that the model can't read.

    >>> from npattn.runs import load_model
    >>> found = trace_model(load_model("g2p"), "knight")
    >>> found.target, round(found.loss, 3)
    (['N', 'AY', 'T', '<eos>'], 0.277)
    >>> found.trace["decoder.2.cross_attention.A"].gradient.shape         # (B, H, N_T, N_S)
    (1, 4, 4, 6)
    """
    transformer, codec, _ = model
    src = np.array([encode(transformer, codec, source, "source")])
    target = model(source, unknown=UNKNOWN) if target is None else target
    check_text(target, "target")
    tgt = np.array([codec.encode_target(target)])             # <bos> … <eos>
    read, written = tgt[:, :-1], tgt[:, 1:]
    check_length(transformer, written.size, codec.target_unit, "target")
    params = {name: array.astype(np.float64) for name, array in transformer.params.items()}
    logits, _ = reference.forward(params, src, read, transformer.config)
    loss, cache = cross_entropy(logits, written)
    dlogits = cross_entropy_backward(written.size, cache)     # of the sum over the symbols, not of their mean
    found = with_sub_layers(trace(reference, (params, src, read, transformer.config), dlogits, inside=INSIDE))
    symbols = codec.source_vocabulary.decode(src[0]), codec.target_vocabulary.decode(written[0])
    return Reading(found, float(loss) * written.size, *map(list, symbols))


def trace_layer(
    side: Literal["encoder", "decoder"], norm: Literal["post", "pre"] = "post", rng: np.random.Generator | int = 0
) -> Trace:
    """Return the trace of a small layer at random numbers with one decimal; the last of its inputs is <pad>.

    - side: "encoder" or "decoder".
    - norm: "post" or "pre", where the layer norm stands.
    - rng: draws the numbers: a numpy.random.Generator, or an integer seed.

    >>> trace_layer("encoder")["self_attention.A"].axes
    ('H', 'N_Q', 'N_X')
    """
    rng, config = np.random.default_rng(rng), replace(SMALL, norm=norm)
    first = f"{side}.0."
    shapes = {name.removeprefix(first): s for name, s in config.shapes().items() if name.startswith(first)}
    p = nested({name: rng.normal(size=s).round(1) + name.endswith("gamma") for name, s in shapes.items()})
    X, M = rng.normal(size=(3, 4)).round(1), rng.normal(size=(3, 4)).round(1)
    pads = np.array([[[True, True, False]]])                  # (H, N_Q, N_X)
    memory, masks = ((M,), (causal_mask(3), pads)) if side == "decoder" else ((), (pads,))
    layer = getattr(reference, f"{side}_layer"), getattr(reference, f"{side}_layer_backward")
    inside = [source_function(function) for function in INSIDE]
    chosen = (0, 1, 2) if memory else (0, 2)                  # dX, dM and the gradients of p; the encoder has no M
    args = (X, *memory, p, *masks, config, None)
    return with_sub_layers(run(*layer, inside, args, select=lambda found: [found[i] for i in chosen]))


def with_sub_layers(found: Trace) -> Trace:
    """Name the sub-layers in the titles of their parts, and the term of dX in each that comes through f."""
    for path, inner in itertools.pairwise(found.parts):
        number = re.search(r"norm_(\d)$", path)
        if number:                                            # the part after it is f
            part, f = found.parts[path], inner.rpartition(".")[2].replace("_", "-")
            part.title = f"sub-layer {number[1]} ({f}): {part.title}"
            part.label("X (2)", "dX, the way through f")
    return found
