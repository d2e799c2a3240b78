"""The encoder–decoder Transformer: configuration, parameters, layers, the whole, and search.

Read `tokens` for the rows that are worked on, `attention` and `blocks` for the layers, `stacks` for encoder and
decoder, `functions` for the model as a pure pair, `model` for the class around it.
"""

from npattn.transformer.config import TransformerConfig
from npattn.transformer.functions import TransformerCache
from npattn.transformer.model import Transformer
from npattn.transformer.parameters import Parameters

__all__ = ["Parameters", "Transformer", "TransformerCache", "TransformerConfig"]
