"""`Trainer`: one training step, in worker threads over shards of the batch.

**Step**  A batch is cut into as many shards as there are workers. With L_i the mean loss over the n_i real tokens of
shard i and n = Σ n_i,

    L = Σ (n_i/n) L_i,    g = Σ (n_i/n) g_i

which is the loss and gradient of the whole batch, up to rounding. Then the gradient is clipped and the optimiser takes
its step. Pure functions and a parameter buffer that nobody writes to meanwhile make the shards independent.
"""

from __future__ import annotations

import contextlib
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from npattn._shapes import check_size
from npattn._speed import can_limit_blas, cores, one_blas_thread
from npattn._types import Array
from npattn.optim import Adam, clip_gradients
from npattn.transformer import Parameters, Transformer
from npattn.transformer.functions import check_batch


class Trainer:
    """Train `model` with `optimizer`, one `step` for each batch.

    - `smoothing`: label smoothing ε of the loss. `clip`: the largest norm of the gradient, None for no limit.
    - `workers`: threads, each with a shard of the batch and one BLAS thread, which is set back after the step. None
      means one for each core when threadpoolctl (the extra `fast`) is installed; without it one, and BLAS threads as
      they are.
    - `rng`: an integer seed or a numpy.random.Generator for dropout; None trains without dropout. Each shard of each
      step has a generator of its own, made from the seed, the number of the step and that of the shard, so that the
      same seed and number of workers give the same bits, and a resumed run needs to know no more than its step.

    `steps` counts the steps taken; set it to resume.

    >>> from npattn import Adam, Transformer, TransformerConfig
    >>> model = Transformer(TransformerConfig(9, 7, d_model=8, n_heads=2, d_ff=16), rng=0)
    >>> trainer = Trainer(model, Adam(model.params, lr=1e-3), workers=1)
    >>> src, tgt = np.array([[4, 5, 6, 0]]), np.array([[1, 3, 4, 2]])
    >>> losses = [trainer.step(src, tgt) for _ in range(10)]
    >>> losses[-1] < losses[0]
    True
    """

    def __init__(
        self,
        model: Transformer,
        optimizer: Adam,
        *,
        smoothing: float = 0.1,
        clip: float | None = None,
        workers: int | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        if workers is not None:
            check_size("workers", workers, least=1)
        check_optimizer(model, optimizer)
        self.model, self.optimizer = model, optimizer
        self.smoothing, self.clip = smoothing, clip
        self.workers = workers or (cores() if can_limit_blas() else 1)
        self.seed = int(rng.integers(2**63)) if isinstance(rng, np.random.Generator) else rng
        self.steps = 0
        self._pool = ThreadPoolExecutor(self.workers, "npattn") if self.workers > 1 else None

    def step(self, src: Array, tgt: Array, lr: float | None = None) -> float:
        """Take one step on ids src (B, N_S), tgt (B, N_T) = <bos> … <eos> and pads; return the loss before it.

        `lr` overrides the optimiser's rate for this step. Raises FloatingPointError, and changes nothing, when the
        loss is not finite; `npattn.clip_gradients` and `Adam.step` name a gradient that is not.
        """
        loss, grads = self.loss_and_gradients(src, tgt)
        if not math.isfinite(loss):
            raise FloatingPointError(f"step {self.steps + 1}: expected a finite loss, got {loss}")
        if self.clip is not None:
            grads, _ = clip_gradients(grads, self.clip, in_place=True)   # ours alone
        self.optimizer.step(grads, lr)
        self.steps += 1
        return loss

    def loss_and_gradients(self, src: Array, tgt: Array) -> tuple[float, Parameters]:
        """Return the loss of the batch and its gradients, from all workers."""
        check_batch(src, tgt, self.model.config)              # as a whole: shards might hide rows that do not match
        shards = np.array_split(np.arange(len(src)), min(self.workers, max(len(src), 1)))
        counts = [int((tgt[rows, 1:] != self.model.config.pad_id).sum()) for rows in shards]
        shares = [count / max(sum(counts), 1) for count in counts]
        jobs = [(src[rows], tgt[rows], self._generator(i)) for i, rows in enumerate(shards)]
        total, grads = 0.0, None
        for share, (loss, part) in zip(shares, self._run(jobs), strict=True):
            total += share * loss
            part.flat *= share
            if grads is None:
                grads = part
            else:
                grads.flat += part.flat
        assert grads is not None
        return total, grads

    def _run(self, jobs: list[tuple[Array, Array, np.random.Generator | None]]) -> list[tuple[float, Parameters]]:
        def work(job: tuple[Array, Array, np.random.Generator | None]) -> tuple[float, Parameters]:
            src, tgt, rng = job
            return self.model.loss_and_gradients(src, tgt, self.smoothing, rng)

        if self._pool is None:
            return [work(job) for job in jobs]
        with one_blas_thread() if can_limit_blas() else contextlib.nullcontext():
            return list(self._pool.map(work, jobs))

    def _generator(self, shard: int) -> np.random.Generator | None:
        return None if self.seed is None else np.random.default_rng([self.seed, self.steps, shard])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs besides the model and the optimiser: seed and steps."""
        return {"seed": self.seed, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.seed, self.steps = state["seed"], state["steps"]


def check_optimizer(model: Transformer, optimizer: Adam) -> None:
    """Raise unless the optimiser updates the very parameters of the model: another's would train nothing."""
    for name, parameter in model.params.items():
        if name not in optimizer.params or not np.shares_memory(parameter, optimizer.params[name]):
            raise ValueError(f"optimizer: expected the optimiser of model.params, but {name} is not among its arrays")
