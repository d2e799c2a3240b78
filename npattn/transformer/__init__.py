"""The encoder–decoder Transformer.

Read `reference` first: the whole model as one plain pair. `config` has the sizes and choices, `parameters` the memory,
`batch` the check of ids, `model` the class around them. `fast` is the reference changed for speed; the class runs on it.
Searching for a target is not here but in `npattn.decoding`, training in `npattn.training`.
"""

from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast.transformer import TransformerCache
from npattn.transformer.model import Transformer
from npattn.transformer.parameters import Parameters

__all__ = ["Parameters", "Transformer", "TransformerCache", "TransformerConfig"]
