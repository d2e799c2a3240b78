"""From a source to a target: greedy and beam search, both on a decoder with key/value caches.

`greedy` and `beam` are the searches, `hypotheses` has the arithmetic of beams, `cached_decoder` the decoder one token
at a time, `inference_layers` its layers without a backward, `ensemble` several decoders as one, `forbidden` the tokens
that may not come next, `workers` the threads, `checks` the check of arguments.
Sources and targets are ids here; `npattn.runs.prediction` turns texts into ids.
"""

from npattn.decoding.beam import beam_search
from npattn.decoding.greedy import greedy_search
from npattn.decoding.hypotheses import Hypothesis

__all__ = ["Hypothesis", "beam_search", "greedy_search"]
