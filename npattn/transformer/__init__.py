"""The encoder–decoder Transformer: configuration, parameters, layers, the whole, and search.

Read `blocks` for the layers, `functions` for the model as a pure pair, `model` for the class around it.
"""

from npattn.transformer.config import TransformerConfig
from npattn.transformer.functions import TransformerCache
from npattn.transformer.model import Transformer
from npattn.transformer.parameters import Parameters

__all__ = ["Parameters", "Transformer", "TransformerCache", "TransformerConfig"]
