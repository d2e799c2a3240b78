"""The mean of the parameters at the last validations of a run.

    θ̄ = (θ_k + θ_(k−1) + … + θ_(k−n+1)) / n,    n = min(k, N)

θ_k are the parameters at validation k. Each step moves the parameters through the noise of one batch. Near a minimum
they wander around it, and the mean of places far apart lies closer to it than any of them. The longer the learning rate
stays high, the more that helps: at its end a rate that falls to 0 has averaged by itself.

**Source**  Vaswani et al. 2017, section 6.1, who take the mean of the last 5 or 20 checkpoints.
"""

from __future__ import annotations

import numpy as np

from npattn._internal.checks import Array, check_size
from npattn.training.models import Model


class Average:
    """The mean of the last N parameters that were added, as a model.

    - model: a new model of the sizes of the one that is trained. It takes the mean.
    - n: N, 1 or more.

    >>> from npattn import LanguageModel, LanguageModelConfig
    >>> config = LanguageModelConfig(5, d_model=2, n_layers=1, n_heads=1)
    >>> average = Average(LanguageModel(config), 2)
    >>> for value in (1.0, 2.0, 4.0):
    ...     average.add(np.full(average.model.params.flat.size, value))
    >>> average.model.params["output.W"][0]                   # (2 + 4)/2
    array([3., 3., 3., 3., 3.], dtype=float32)
    """

    def __init__(self, model: Model, n: int) -> None:
        self.model, self.count = model, 0                     # of parameters that were added
        flat = model.params.flat
        self.last: Array = np.zeros((check_size("n", n, least=1), flat.size), flat.dtype)   # (N, parameters)

    def add(self, flat: Array) -> None:
        """Take parameters in place of those that were added N times before.

        - flat: all parameters in a row.
        """
        self.last[self.count % len(self.last)] = flat
        self.restore(self.last, self.count + 1)

    def restore(self, last: Array, count: int) -> None:
        """Go on from an earlier state.

        - last, count: the attributes of those names.
        """
        self.last, self.count = last, count
        self.model.params.flat[:] = last[:count].mean(0)
