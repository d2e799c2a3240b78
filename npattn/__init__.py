"""npattn: attention you can read, differentiate and trust, in NumPy alone.

Every layer is a pair of pure functions. `forward(...)` returns `(output, cache)`; `backward(gradient, cache)` returns
the gradients in the order of forward's floating arguments (masks and ids have none). Each backward is derived and
written by hand. `npattn explain foundations` begins with what a gradient is; "(foundations F9)" in a docstring names
its section F9. npattn/README.md is the map of the package.

**Notation** of attention, the same in every module:

=========  ======================================================  ==============================
symbol     meaning                                                 shape
=========  ======================================================  ==============================
X          input vectors, one a row                                (…, N_X, D_X)
q, Q       one query; stacked queries                              (…, D_Q); (…, N_Q, D_Q)
K, V       keys, values                                            (…, N_X, D_Q), (…, N_X, D_V)
e, E       similarities (scores)                                   (…, N_X); (…, N_Q, N_X)
a, A       attention weights: rows sum to 1, or are 0 if masked    as e, E
y, Y       output                                                  (…, D_V); (…, N_Q, D_V)
W_…, b_…   weights and biases of Q, K, V and of the output O       (in, out), as in X W_K; (out,)
dZ         gradient of the loss with respect to Z                  shape of Z
H, D_E, B  heads; hidden width of version 1; batch
X_Q, D_XQ  inputs of the queries in version 7                      (…, N_Q, D_XQ)
Z, D_Z     output of version 7                                     (…, N_Q, D_Z)
M          output of the encoder; N_S, N_T: source, target length  (B, N_S, D_X)
=========  ======================================================  ==============================

Lower case is one vector, a row or a column as the product needs; upper case is stacked rows. Versions 1 to 4 read the
inputs themselves, so D_V = D_X. Leading axes … are batch axes and match exactly; only a mask or an additive bias may
broadcast. Some modules use a letter for something else (V for the size of a vocabulary, H for a hidden layer) and say
so. In "Attention Is All You Need", D_Q is called d_k, D_V is d_v and D_X is d_model.

**Masks** are boolean, True = may attend. **dtypes**: float32 or float64, the same out as in.
**Randomness** is an explicit `numpy.random.Generator`; passing one switches dropout on.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npattn import (
        attention,
        conformance,
        gradcheck,
        hf_weights,
        language_model,
        layers,
        optim,
        plot,
        runs,
        tasks,
        torch_weights,
        transformer,
    )
    from npattn._internal.files.npz import CheckpointError
    from npattn._internal.system.memory import keep_memory, return_memory
    from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
    from npattn.attention.masks import causal_mask, padding_mask
    from npattn.attention.tiled import tiled_attention, tiled_attention_backward
    from npattn.decoding import Hypothesis, beam_search, greedy_search
    from npattn.gradcheck import GradientError, GradientReport, check_gradients, check_layer
    from npattn.language_model import LanguageModel, LanguageModelConfig, generate
    from npattn.layers.positions import sinusoidal_positions
    from npattn.learn.explore.saved import explore
    from npattn.learn.trace import trace
    from npattn.optim import Adam, clip_gradients, noam_rate
    from npattn.runs import TrainedModel, load_model
    from npattn.training import RanksDiffer, Trainer
    from npattn.transformer import Parameters, Transformer, TransformerConfig

__version__ = "0.1.0"

#: Where each public name is defined; nothing for a folder. It is imported when it is first used, which keeps
#: `import npattn` quick.
_HOMES = {
    "attention": "",
    "conformance": "",
    "gradcheck": "",
    "hf_weights": "",
    "language_model": "",
    "layers": "",
    "optim": "",
    "plot": "",
    "runs": "",
    "tasks": "",
    "torch_weights": "",
    "transformer": "",
    "keep_memory": "_internal.system.memory",
    "return_memory": "_internal.system.memory",
    "CheckpointError": "_internal.files.npz",
    "scaled_dot_product_attention": "attention.dot_product",
    "scaled_dot_product_attention_backward": "attention.dot_product",
    "causal_mask": "attention.masks",
    "padding_mask": "attention.masks",
    "tiled_attention": "attention.tiled",
    "tiled_attention_backward": "attention.tiled",
    "Hypothesis": "decoding",
    "beam_search": "decoding",
    "greedy_search": "decoding",
    "GradientError": "gradcheck",
    "GradientReport": "gradcheck",
    "check_gradients": "gradcheck",
    "check_layer": "gradcheck",
    "LanguageModel": "language_model",
    "LanguageModelConfig": "language_model",
    "generate": "language_model",
    "sinusoidal_positions": "layers.positions",
    "explore": "learn.explore.saved",
    "trace": "learn.trace",
    "Adam": "optim",
    "clip_gradients": "optim",
    "noam_rate": "optim",
    "TrainedModel": "runs",
    "load_model": "runs",
    "RanksDiffer": "training",
    "Trainer": "training",
    "Parameters": "transformer",
    "Transformer": "transformer",
    "TransformerConfig": "transformer",
}

__all__ = [
    "Adam",
    "CheckpointError",
    "GradientError",
    "GradientReport",
    "Hypothesis",
    "LanguageModel",
    "LanguageModelConfig",
    "Parameters",
    "RanksDiffer",
    "TrainedModel",
    "Trainer",
    "Transformer",
    "TransformerConfig",
    "__version__",
    "attention",
    "beam_search",
    "causal_mask",
    "check_gradients",
    "check_layer",
    "clip_gradients",
    "conformance",
    "explore",
    "generate",
    "gradcheck",
    "greedy_search",
    "hf_weights",
    "keep_memory",
    "language_model",
    "layers",
    "load_model",
    "noam_rate",
    "optim",
    "padding_mask",
    "plot",
    "return_memory",
    "runs",
    "scaled_dot_product_attention",
    "scaled_dot_product_attention_backward",
    "sinusoidal_positions",
    "tasks",
    "tiled_attention",
    "tiled_attention_backward",
    "torch_weights",
    "trace",
    "transformer",
]

if not TYPE_CHECKING:                                         # for type checkers a misspelt name must stay an error

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = _HOMES[name]
        value = getattr(import_module(f"{__name__}.{home}"), name) if home else import_module(f"{__name__}.{name}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
