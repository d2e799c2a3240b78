"""`Transformer`: a configuration, its parameters, and the pure functions applied to them."""

from __future__ import annotations

import dataclasses
import math
from os import PathLike
from typing import Any

import numpy as np

from npattn._internal.checks import Array, check_dtype, check_generator, check_room, layout_of
from npattn._internal.files import CheckpointError, load_arrays, save_arrays
from npattn.transformer.batch import check_pairs
from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast import transformer as fast
from npattn.transformer.fast.transformer import TransformerCache
from npattn.transformer.parameters import Parameters


class Transformer:
    """The encoder–decoder Transformer; see `npattn.transformer.fast.transformer` for the formulas.

    Its one state is `params`. Calls keep theirs in the cache that they return, so that a model may be used from
    several threads, and several caches may wait for their backward. A cache refers to the parameters, so take its
    backward before you change them.

    `rng` draws the initial parameters: an integer seed or a numpy.random.Generator. Matrices are uniform within
    ±√(6/(in + out)) (Glorot & Bengio 2010), each a fresh draw; embeddings normal with standard deviation 1/√D_X, so
    that a scaled embedding has entries of size 1; γ = 1; b and β = 0. Raises TypeError for a dtype that is neither
    float32 nor float64, and for an rng that is none.

    >>> config = TransformerConfig(9, 7, d_model=8, n_heads=2, d_ff=16, n_encoder_layers=1, n_decoder_layers=1)
    >>> model = Transformer(config, rng=0)
    >>> src, tgt = np.array([[4, 5, 6, 0]]), np.array([[1, 3, 4, 2]])       # 0 pads, 1 <bos>, 2 <eos>
    >>> logits, cache = model.forward(src, tgt)
    >>> logits.shape
    (1, 4, 7)
    >>> cache.attention_weights()["decoder.0.cross_attention"].shape         # (B, H, N_T, N_S)
    (1, 2, 4, 4)
    >>> loss, grads = model.loss_and_gradients(src, tgt)
    >>> grads["encoder.0.self_attention.W_Q"].shape
    (8, 8)
    """

    def __init__(
        self, config: TransformerConfig, *, rng: np.random.Generator | int = 0, dtype: Any = np.float32
    ) -> None:
        check_config(config)
        self.config = config
        self.params = initial_parameters(config, check_generator("rng", rng), check_dtype("dtype", dtype))

    def __repr__(self) -> str:
        return f"<Transformer of {self.params.flat.size:,} parameters: {self.config}>"

    def forward(
        self, src: Array, tgt: Array, rng: np.random.Generator | None = None
    ) -> tuple[Array, TransformerCache]:
        """Return logits (B, N_T, V) for ids src (B, N_S) and tgt (B, N_T), and the cache for `backward`.

        The logits at position i see tgt up to i; an rng switches dropout on.
        Raises TypeError for ids that are no integers, IndexError for ids outside their vocabulary, ValueError for
        shapes.
        """
        return fast.forward(self.params, src, tgt, self.config, rng)

    def backward(self, dlogits: Array, cache: TransformerCache) -> Parameters:
        """Return the gradient of every parameter for dlogits (B, N_T, V), in a buffer like that of the parameters.

        Raises ValueError and TypeError for dlogits of another shape or dtype than the logits.
        """
        grads = self.params.like()
        for name, gradient in fast.backward(dlogits, cache).items():
            grads[name] = gradient
        return grads

    def loss_and_gradients(
        self, src: Array, tgt: Array, smoothing: float = 0.1, rng: np.random.Generator | None = None
    ) -> tuple[float, Parameters]:
        """Return the mean cross-entropy over real tokens, in nats, and the gradients.

        src (B, N_S) and tgt (B, N_T) are ids. `tgt` is <bos> … <eos> and then pads; the decoder reads it without its
        last column and is asked for it without its first. Pads count neither in the loss nor in its mean. Raises what
        `forward` does, and ValueError for a tgt of one column or unless 0 ≤ smoothing < 1.
        """
        check_pairs(src, tgt, self.config)
        grads = self.params.like()
        loss, gradients = fast.loss_and_gradients(self.params, src, tgt, self.config, smoothing, rng)
        for name, gradient in gradients:
            grads.blocks[name] += gradient
        return loss, grads

    def save(self, path: str | PathLike[str]) -> None:
        """Write configuration and parameters to `path`, an .npz file; an existing file is replaced as a whole.

        Raises OSError when it cannot be written; what was at `path` is still there.
        """
        save_arrays(path, dict(self.params), {"config": dataclasses.asdict(self.config)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Transformer:
        """Read a model that `save` wrote. Raises CheckpointError, naming file and cause, for anything else, and OSError
        when there is no such file."""
        arrays, metadata = load_arrays(path)
        try:
            config = TransformerConfig(**metadata["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: no valid model configuration ({error})") from error
        return cls.from_arrays(config, arrays, str(path))

    @classmethod
    def from_arrays(cls, config: TransformerConfig, arrays: dict[str, Array], origin: str = "arrays") -> Transformer:
        """Build a model around given parameters, whose names, shapes and dtype must be those of the configuration.

        Raises CheckpointError, naming `origin` and what does not fit, for any others.
        """
        check_config(config)
        layout_of("arrays", arrays)
        layers = config.n_encoder_layers + config.n_decoder_layers
        if layers > len(arrays):                              # names are many more than arrays in a forged file
            raise CheckpointError(f"{origin}: expected parameters of {layers} layers, got {len(arrays)} arrays")
        wanted, given = config.shapes(), {name: array.shape for name, array in arrays.items()}
        wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        if wrong:
            details = "; ".join(f"{name}: expected {wanted.get(name)}, got {given.get(name)}" for name in wrong[:5])
            raise CheckpointError(f"{origin}: {len(wrong)} parameters do not fit the configuration: {details}")
        dtypes = {array.dtype for array in arrays.values()}
        if dtypes not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
            got = ", ".join(sorted(map(str, dtypes)))
            raise CheckpointError(f"{origin}: expected float32 or float64 for all parameters, got {got}")
        model = cls(config, dtype=dtypes.pop())
        for name, array in arrays.items():
            model.params[name] = array
        return model


def check_config(config: TransformerConfig) -> None:
    """Raise a TypeError unless it is a configuration."""
    if not isinstance(config, TransformerConfig):
        raise TypeError(f"config: expected a TransformerConfig, got {type(config).__name__}")


def initial_parameters(config: TransformerConfig, rng: np.random.Generator, dtype: Any) -> Parameters:
    """Draw the parameters that a new model starts from."""
    shapes = config.shapes()
    check_room("config", sum(map(math.prod, shapes.values())))
    params = Parameters(shapes, dtype, config.side_by_side())
    for name, view in params.items():
        if name.endswith(".W_E"):
            view[...] = rng.normal(0, config.d_model**-0.5, view.shape)
        elif view.ndim == 2:
            limit = math.sqrt(6 / sum(view.shape))
            view[...] = rng.uniform(-limit, limit, view.shape)
        elif name.endswith(".gamma"):
            view[...] = 1
    return params
