"""`LanguageModel`: a configuration, its parameters, and the pure functions applied to them."""

from __future__ import annotations

import dataclasses
import math
from os import PathLike
from typing import Any

import numpy as np

from npattn._internal.checks import (
    Array,
    Params,
    check_cache,
    check_cotangent,
    check_dtype,
    check_generator,
    check_room,
    differences,
    layout_of,
)
from npattn._internal.files import CheckpointError, load_arrays, save_arrays
from npattn.language_model.config import LanguageModelConfig
from npattn.language_model.fast import language_model as fast
from npattn.language_model.reference import LanguageModelCache, check_rows
from npattn.transformer.fast.gradient import computed
from npattn.transformer.parameters import Parameters


class LanguageModel:
    """A decoder-only language model. `npattn.language_model.reference` has the formulas.

    - config: sizes and choices, a LanguageModelConfig.
    - rng: draws the first parameters: a numpy.random.Generator, or an integer seed.
    - dtype: float32 or float64, of parameters, logits and gradients.

    `params` holds the parameters, and the model has no other state. What a backward needs is in the cache that forward
    returns. A cache refers to the parameters: call backward before you change them.

    A new model starts with matrices that are uniform within ±√(6/(in + out)) (Glorot & Bengio 2010), with embeddings
    that are normal with standard deviation 1/√D, with norms that multiply by 1, and with b = 0 and β = 0. Each matrix
    is a new draw.

    Raises TypeError for a config, an rng or a dtype of another type, ValueError for a negative seed and for more
    parameters than memory has room for.

    >>> config = LanguageModelConfig(9, d_model=8, n_layers=1, n_heads=2, pad_id=0)
    >>> model = LanguageModel(config, rng=0)
    >>> ids = np.array([[4, 5, 6, 3], [7, 3, 0, 0]])
    >>> logits, cache = model.forward(ids)
    >>> logits.shape
    (2, 4, 9)
    >>> loss, grads = model.loss_and_gradients(ids)
    >>> grads["layers.0.attention.W_Q"].shape
    (8, 8)
    """

    def __init__(
        self, config: LanguageModelConfig, *, rng: np.random.Generator | int = 0, dtype: Any = np.float32
    ) -> None:
        check_config(config)
        self.config = config
        self._params = initial_parameters(config, check_generator("rng", rng), check_dtype("dtype", dtype))

    @property
    def params(self) -> Parameters:
        """The parameters. Their values can be changed; the object stays the same, because optimisers refer to it."""
        return self._params

    def __repr__(self) -> str:
        return f"<LanguageModel of {self.params.flat.size:,} parameters: {self.config}>"

    def forward(self, ids: Array, rng: np.random.Generator | None = None) -> tuple[Array, LanguageModelCache]:
        """Return the logits (B, N, V) and the cache for `backward`.

        - ids: ids (B, N), <pad> after the end of short rows. The logits at position i depend on ids up to i.
        - rng: switches dropout on; None leaves it off.

        Raises TypeError for ids that are no integers, IndexError for ids outside the vocabulary, ValueError for shapes.
        """
        return fast.forward(self.params, ids, self.config, rng)

    def backward(self, dlogits: Array, cache: LanguageModelCache) -> Parameters:
        """Return the gradient of every parameter, in a buffer like that of the parameters.

        - dlogits: the gradient of the loss with respect to the logits, (B, N, V).
        - cache: what `forward` returned beside the logits.

        Raises ValueError and TypeError for dlogits of another shape or dtype than the logits.
        """
        logits, grads = check_cache(cache, LanguageModelCache).logits, self.params.like()
        check_cotangent("dlogits", dlogits, logits.shape, logits.dtype)
        for name, gradient in fast.gradients(dlogits, cache):
            grads.blocks[name] += computed(gradient)
        return grads

    def loss_and_gradients(
        self, ids: Array, *, smoothing: float = 0.0, rng: np.random.Generator | None = None
    ) -> tuple[float, Parameters]:
        """Return the mean cross-entropy of the next token, in nats, and its gradients.

        - ids: ids (B, N), <pad> after the end of short rows. Position i is asked for ids[:, i + 1]. Pads do not count.
        - smoothing: ε of the label smoothing, 0 ≤ ε < 1.
        - rng: switches dropout on; None leaves it off.

        Raises what `forward` raises, and ValueError for ids of one column and for another smoothing.
        """
        check_rows(ids, self.config)
        grads = self.params.like()
        loss, gradients = fast.loss_and_gradients(self.params, ids, self.config, smoothing, rng)
        for name, gradient in gradients:
            grads.blocks[name] += computed(gradient)
        return loss, grads

    def save(self, path: str | PathLike[str]) -> None:
        """Write configuration and parameters to an .npz file.

        - path: of the file. An existing file is replaced as a whole.

        Raises OSError when the file cannot be written; an existing file then stays as it was.
        """
        save_arrays(path, dict(self.params), {"config": dataclasses.asdict(self.config)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> LanguageModel:
        """Read a model that `save` wrote.

        - path: of the file.

        Raises CheckpointError, naming file and cause, for a file with other content, OSError when there is no such
        file.
        """
        arrays, metadata = load_arrays(path)
        try:
            config = LanguageModelConfig(**metadata["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: no valid model configuration ({error})") from error
        return cls.from_arrays(config, arrays, str(path))

    @classmethod
    def from_arrays(cls, config: LanguageModelConfig, arrays: Params, origin: str = "arrays") -> LanguageModel:
        """Return a model with a copy of the given parameters.

        - config: sizes and choices, a LanguageModelConfig.
        - arrays: names to parameters. Names, shapes and one dtype must be those of the configuration.
        - origin: what error messages call the arrays, such as the path of their file.

        Raises CheckpointError, naming origin and what does not fit, and TypeError for arguments of another type.
        """
        check_config(config)
        layout = layout_of("arrays", arrays)
        if config.n_layers > len(layout):                     # a forged file: do not make all their names
            raise CheckpointError(f"{origin}: expected {config.n_layers} layers, got {len(layout)} arrays")
        dtype = layout.get("embedding.W_E", ((), np.dtype(np.float32)))[1]
        if dtype not in (np.float32, np.float64):
            raise CheckpointError(f"{origin}: 'embedding.W_E': expected float32 or float64, got {dtype}")
        if wrong := differences(layout, {name: (shape, dtype) for name, shape in config.shapes().items()}):
            raise CheckpointError(f"{origin}: {wrong}")
        model = empty_model(config, dtype)
        for name, array in arrays.items():
            model.params[name] = array
        return model


def check_config(config: LanguageModelConfig) -> None:
    """Raise a TypeError unless it is a configuration."""
    if not isinstance(config, LanguageModelConfig):
        raise TypeError(f"config: expected a LanguageModelConfig, got {type(config).__name__}")


def empty_model(config: LanguageModelConfig, dtype: Any) -> LanguageModel:
    """Return a model whose parameters are zeros, without a draw."""
    model = LanguageModel.__new__(LanguageModel)
    model.config, model._params = config, Parameters(config.shapes(), dtype, config.side_by_side())
    return model


def initial_parameters(config: LanguageModelConfig, rng: np.random.Generator, dtype: Any) -> Parameters:
    """Draw the parameters that a new model starts from."""
    shapes = config.shapes()
    check_room("config", sum(map(math.prod, shapes.values())))
    params = Parameters(shapes, dtype, config.side_by_side())
    for name, view in params.items():
        if name.startswith("embedding."):
            view[...] = rng.normal(0, config.d_model**-0.5, view.shape)
        elif view.ndim == 2:
            limit = math.sqrt(6 / sum(view.shape))
            view[...] = rng.uniform(-limit, limit, view.shape)
        elif "gamma" in name:
            view[...] = not config.unit_offset                # 1 + 0 with the offset
    return params
