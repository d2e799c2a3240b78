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
from npattn.transformer.fast.by_reference import Cache as ReferenceCache
from npattn.transformer.fast.gradient import computed
from npattn.transformer.fast.transformer import TransformerCache
from npattn.transformer.parameters import Parameters


class Transformer:
    """The encoder–decoder Transformer. `npattn.transformer.reference` has the formulas.

    - config: sizes and choices, a TransformerConfig.
    - rng: draws the first parameters: a numpy.random.Generator, or an integer seed.
    - dtype: float32 or float64, of parameters, logits and gradients.

    `params` holds the parameters, and the model has no other state. What a backward needs is in the cache that forward
    returns. So several threads may use one model, and several caches may wait for their backward. A cache refers to the
    parameters: call backward before you change them.

    A new model starts with matrices that are uniform within ±√(6/(in + out)) (Glorot & Bengio 2010), with embeddings
    that are normal with standard deviation 1/√D_X, so that a scaled embedding has entries of size 1, and with γ = 1,
    b = 0 and β = 0. Each matrix is a new draw.

    The paper's models run on `npattn.transformer.fast`. Those with choices that only models of Hugging Face have, see
    TransformerConfig, run on `npattn.transformer.reference`.

    Raises TypeError for a config, an rng or a dtype of another type, ValueError for a negative seed and for more
    parameters than memory has room for.

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
        self._params = initial_parameters(config, check_generator("rng", rng), check_dtype("dtype", dtype))

    @property
    def params(self) -> Parameters:
        """The parameters. Their values can be changed; the object stays the same, because optimisers refer to it."""
        return self._params

    @params.setter
    def params(self, value: object) -> None:
        raise AttributeError(
            "params: a trainer or an optimiser would go on with the old object: copy the values instead, with "
            "model.params.flat[:] = other.flat, or model.params[name] = array for each name"
        )

    def __repr__(self) -> str:
        return f"<Transformer of {self.params.flat.size:,} parameters: {self.config}>"

    def forward(
        self, src: Array, tgt: Array, rng: np.random.Generator | None = None
    ) -> tuple[Array, TransformerCache | ReferenceCache]:
        """Return the logits (B, N_T, V) and the cache for `backward`.

        - src: ids (B, N_S) of the sources, <pad> after the end of short rows.
        - tgt: ids (B, N_T) of the targets, likewise. The logits at position i depend on tgt up to i.
        - rng: switches dropout on; None leaves it off.

        Raises TypeError for ids that are no integers, IndexError for ids outside their vocabulary, ValueError for
        shapes.
        """
        return fast.forward(self.params, src, tgt, self.config, rng)

    def backward(self, dlogits: Array, cache: TransformerCache | ReferenceCache) -> Parameters:
        """Return the gradient of every parameter, in a buffer like that of the parameters.

        - dlogits: the gradient of the loss with respect to the logits, (B, N_T, V).
        - cache: what `forward` returned beside the logits.

        Raises ValueError and TypeError for dlogits of another shape or dtype than the logits.
        """
        grads = self.params.like()
        for name, gradient in fast.backward(dlogits, cache).items():
            grads[name] = gradient
        return grads

    def loss_and_gradients(
        self, src: Array, tgt: Array, smoothing: float = 0.1, rng: np.random.Generator | None = None
    ) -> tuple[float, Parameters]:
        """Return the mean cross-entropy over real tokens, in nats, and its gradients.

        - src: ids (B, N_S) of the sources, <pad> after the end of short rows.
        - tgt: ids (B, N_T) of the targets, <bos> … <eos> and then <pad>. The decoder reads all columns but the last,
          and the loss compares its logits with all columns but the first. Pads do not count.
        - smoothing: ε of the label smoothing, 0 ≤ ε < 1.
        - rng: switches dropout on; None leaves it off.

        Raises what `forward` raises, and ValueError for a tgt of one column and for another smoothing.
        """
        check_pairs(src, tgt, self.config)
        grads = self.params.like()
        loss, gradients = fast.loss_and_gradients(self.params, src, tgt, self.config, smoothing, rng)
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
    def load(cls, path: str | PathLike[str]) -> Transformer:
        """Read a model that `save` wrote.

        - path: of the file.

        Raises CheckpointError, naming file and cause, for a file with other content, OSError when there is no such
        file.
        """
        arrays, metadata = load_arrays(path)
        try:
            config = TransformerConfig(**metadata["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: no valid model configuration ({error})") from error
        return cls.from_arrays(config, arrays, str(path))

    @classmethod
    def from_arrays(cls, config: TransformerConfig, arrays: dict[str, Array], origin: str = "arrays") -> Transformer:
        """Return a model with a copy of the given parameters.

        - config: sizes and choices, a TransformerConfig.
        - arrays: names to parameters. Names, shapes and one dtype must be those of the configuration.
        - origin: what error messages call the arrays, such as the path of their file.

        Raises CheckpointError, naming origin and what does not fit, and TypeError for arguments of another type.
        """
        check_config(config)
        layout_of("arrays", arrays)
        layers = config.n_encoder_layers + config.n_decoder_layers
        if layers > len(arrays):                              # a forged file: do not make all their names
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
        model = empty_model(config, dtypes.pop())
        for name, array in arrays.items():
            model.params[name] = array
        return model


def check_config(config: TransformerConfig) -> None:
    """Raise a TypeError unless it is a configuration."""
    if not isinstance(config, TransformerConfig):
        raise TypeError(f"config: expected a TransformerConfig, got {type(config).__name__}")


def check_model(model: Transformer) -> None:
    """Raise a TypeError unless it is a model."""
    if not isinstance(model, Transformer):
        raise TypeError(f"model: expected a Transformer, got {type(model).__name__}")


def empty_model(config: TransformerConfig, dtype: Any) -> Transformer:
    """Return a model whose parameters are zeros, without a draw."""
    model = Transformer.__new__(Transformer)
    shapes = config.shapes()
    check_room("config", sum(map(math.prod, shapes.values())))
    model.config, model._params = config, Parameters(shapes, dtype, config.side_by_side())
    return model


def initial_parameters(config: TransformerConfig, rng: np.random.Generator, dtype: Any) -> Parameters:
    """Draw the parameters that a new model starts from."""
    params = empty_model(config, dtype).params
    for name, view in params.items():
        if name.endswith((".W_E", ".W_P", ".W_B")):
            view[...] = rng.normal(0, config.d_model**-0.5, view.shape)
        elif view.ndim == 2:
            limit = math.sqrt(6 / sum(view.shape))
            view[...] = rng.uniform(-limit, limit, view.shape)
        elif name.endswith(".gamma"):
            view[...] = 1
    return params
