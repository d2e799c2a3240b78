"""Keep all ranks of a training the same: send the first state to all of them, then compare checksums."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.optim import Adam
from npattn.training.models import Model
from npattn.training.ranks import Ranks


class Consistency:
    """Keeps `model` and `optimizer` of every rank the same as those of rank 0.

    Only the first state is sent. All ranks then do the same arithmetic with the same gradients; `check` confirms it.
    """

    def __init__(self, ranks: Ranks, model: Model, optimizer: Adam) -> None:
        self.ranks, self.model, self.optimizer = ranks, model, optimizer
        self.started = ranks.size == 1
        self._batches = 0                                     # checksum of all batches so far

    def start(self, **settings: Any) -> None:
        """Copy parameters and optimiser state of rank 0 to all ranks.

        Raises RanksDiffer unless models, optimisers and the other settings are alike on all ranks.
        """
        adam = self.optimizer
        self.ranks.require_alike(
            model=(self.model.config, self.model.params.flat.dtype),
            optimizer=(adam.lr, adam.betas, adam.eps, adam.weight_decay), **settings,
        )  # fmt: skip
        state = adam.state_dict()
        self.ranks.copy_first([self.model.params.flat, *state.values()])
        adam.load_state_dict(state)
        self.started = True

    def add_batch(self, batch: Iterable[Array]) -> None:
        """Add a batch to the checksum of all batches."""
        for ids in batch:
            self._batches = zlib.crc32(np.ascontiguousarray(ids).data, self._batches)

    def check(self, steps: int) -> None:
        """Raise RanksDiffer, naming the ranks, unless parameters and all batches so far are the same to the bit."""
        if self.ranks.size > 1:
            digest = hashlib.blake2b(self.model.params.flat.data, digest_size=8).hexdigest()
            at = f" after step {steps}" * (steps > 0)
            self.ranks.require_alike(**{f"batches{at}": f"{self._batches:08x}", f"parameters{at}": digest})
