"""What a training step needs to know of a model: its batches, their tokens, and the loss and gradients of a shard.

`steps_of` finds it for a model. A batch of a `Transformer` is src and tgt, one of a `LanguageModel` is ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from npattn._internal.checks import Array
from npattn.language_model import LanguageModel
from npattn.language_model.fast import language_model
from npattn.language_model.reference import check_rows
from npattn.transformer import Transformer
from npattn.transformer.batch import check_pairs
from npattn.transformer.fast import transformer as fast
from npattn.transformer.fast.gradient import Gradient

#: A model that can be trained.
Model: TypeAlias = Transformer | LanguageModel


class Steps(Protocol):
    """The steps of one model. `arrays`: names of a batch's arrays; `operations`: of a step, per token and parameter."""

    @property
    def arrays(self) -> tuple[str, ...]: ...
    @property
    def operations(self) -> int: ...

    def check(self, batch: Sequence[Array]) -> None:
        """Raise unless this is a batch of the model."""

    def tokens(self, batch: Sequence[Array]) -> tuple[Array, Array]:
        """Return how many tokens each row (B,) has, and how many of them count in the loss."""

    def gradients(
        self, batch: Sequence[Array], smoothing: float, rng: Any, share: float
    ) -> tuple[float, Iterable[tuple[str, Gradient]]]:
        """Return the loss of some rows, and the gradients of `share` times this loss by name."""


class TransformerSteps:
    """Pairs: the encoder reads src; the decoder reads tgt, and is asked for the next symbol of tgt."""

    arrays = ("src", "tgt")
    operations = 3                                            # a product takes 2, its backward 4; half the model each

    def __init__(self, model: Transformer) -> None:
        self.model = model

    def check(self, batch: Sequence[Array]) -> None:
        src, tgt = batch
        check_pairs(src, tgt, self.model.config)

    def tokens(self, batch: Sequence[Array]) -> tuple[Array, Array]:
        src, tgt = batch
        real = (tgt[:, 1:] != self.model.config.pad_id).sum(1)
        return (src != self.model.config.pad_id).sum(1) + real, real

    def gradients(self, batch: Sequence[Array], smoothing: float, rng: Any, share: float) -> Any:
        src, tgt = batch
        return fast.loss_and_gradients(self.model.params, src, tgt, self.model.config, smoothing, rng, share)


class LanguageModelSteps:
    """Rows of text: position i is asked for id i + 1."""

    arrays = ("ids",)
    operations = 6

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def check(self, batch: Sequence[Array]) -> None:
        (ids,) = batch
        check_rows(ids, self.model.config)

    def tokens(self, batch: Sequence[Array]) -> tuple[Array, Array]:
        real = (batch[0][:, 1:] != self.model.config.pad_id).sum(1)
        return real, real

    def gradients(self, batch: Sequence[Array], smoothing: float, rng: Any, share: float) -> Any:
        return language_model.loss_and_gradients(self.model.params, batch[0], self.model.config, smoothing, rng, share)


def steps_of(model: Model) -> Steps:
    """Return the steps of a model."""
    return LanguageModelSteps(model) if isinstance(model, LanguageModel) else TransformerSteps(model)
