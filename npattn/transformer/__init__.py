"""The encoder–decoder Transformer.

Read `reference` first: the whole model as one plain pair of functions. `config` has the sizes and choices, `parameters`
the memory, `batch` the checks of ids, `model` the class that holds them together. `variants` and `relative_bias` have
the parts that models of Hugging Face need. `fast` computes what `reference` computes, changed for speed, and the class
uses `fast`. The search for a target is in `npattn.decoding`, training in `npattn.training`.
"""

from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast.transformer import TransformerCache
from npattn.transformer.model import Transformer
from npattn.transformer.parameters import Parameters

__all__ = ["Parameters", "Transformer", "TransformerCache", "TransformerConfig"]
