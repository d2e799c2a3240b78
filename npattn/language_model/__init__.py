"""The decoder-only language model, from GPT-2 to the models of today.

Read `reference` first: the whole model as one plain pair of functions, built of the second ladder's parts. `config` has
the sizes and choices, `model` the class that holds them together, `generation` writes text. Training and generation run
on `fast`, which equals the reference. Other people's weights come and go by `npattn.hf_weights`.
"""

from npattn.language_model.config import LanguageModelConfig, RotarySettings
from npattn.language_model.generation import generate
from npattn.language_model.model import LanguageModel
from npattn.language_model.reference import LanguageModelCache

__all__ = ["LanguageModel", "LanguageModelCache", "LanguageModelConfig", "RotarySettings", "generate"]
