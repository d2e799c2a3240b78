"""`Trainer`: one training step, in worker threads over shards of the batch.

**Step**  The rows are dealt out to the workers, whose losses and gradients add up to those of the batch, see
`npattn.sharding`. Then the gradient is clipped and the optimiser takes its step. Pure functions and a parameter buffer
that nobody writes to meanwhile make the shards independent.

**Speed**  What makes it fast is in `npattn._speed` (BLAS threads, memory), `npattn.transformer.attention` and
`npattn.transformer.tokens` (the model's own attention, without pads) and `npattn.optim` (Adam in pieces).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np

from npattn._shapes import check_size
from npattn._speed import can_limit_blas, cores, keep_memory, one_blas_thread
from npattn._types import Array
from npattn.layers.cross_entropy import checked_smoothing
from npattn.optim import Adam, clip_gradients
from npattn.sharding import GradientSum, deal
from npattn.transformer import Transformer, functions
from npattn.transformer.parameters import Blocks

#: Operations of a step from which on threads pay: in short steps they wait for each other to hand over Python's lock.
#: Two threads took 1.2 to 1.5 times the time of one for steps of 1.3e9 operations, 0.8 to 1.2 times for 2.6e9, the same
#: time for 6e9, and 0.8 times for 12e9.
WORTHWHILE = 4e9

#: Parameters up to which copying all gradients into one buffer costs less than updating them block by block: of a
#: step of 15 ms with 230,000 parameters, Adam took 3 ms in blocks and 1 ms in one buffer. Large models would lose by
#: it, in time and in memory.
SMALL = 1 << 21


class Trainer:
    """Train `model` with `optimizer`, one `step` for each batch.

    - `smoothing`: label smoothing ε of the loss. `clip`: the largest norm of the gradient, None for no limit.
    - `workers`: threads at the most, each with a shard of the batch and one BLAS thread, which is set back after the
      step. None means one for each core when threadpoolctl (the extra `fast`) is installed; without it one, and BLAS
      threads as they are. Steps of fewer than `WORTHWHILE` operations take one worker, which is quicker.
    - `keep_memory`: glibc keeps freed memory for this process from the first step on, see `npattn.keep_memory`. It is
      a setting of the process: False leaves it alone, and `npattn.return_memory()` undoes it.
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
        keep_memory: bool = True,
    ) -> None:
        if workers is not None:
            check_size("workers", workers, least=1)
        check_optimizer(model, optimizer)
        self.model, self.optimizer = model, optimizer
        self.smoothing, self.clip = checked_smoothing(smoothing), clip
        self.workers = workers or (cores() if can_limit_blas() else 1)
        self.keep_memory = keep_memory
        self.seed = int(rng.integers(2**63)) if isinstance(rng, np.random.Generator) else rng
        self.steps = 0
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def step(self, src: Array, tgt: Array, lr: float | None = None) -> float:
        """Take one step on ids src (B, N_S), tgt (B, N_T) = <bos> … <eos> and pads; return the loss before it.

        `lr` overrides the optimiser's rate for this step. Raises FloatingPointError, and changes nothing, when the
        loss is not finite; `npattn.clip_gradients` and `Adam.step` name a gradient that is not.
        """
        shards = self._deal(src, tgt)
        with self._threads(len(shards)) as pool:
            loss, grads = self._add_up(src, tgt, shards, pool)
            if not math.isfinite(loss):
                raise FloatingPointError(f"step {self.steps + 1}: expected a finite loss, got {loss}")
            if self.clip is not None:
                clip_gradients(grads, self.clip, in_place=True, pool=pool)
            self.optimizer.step(grads, lr, pool=pool)
        self.steps += 1
        return loss

    def loss_and_gradients(self, src: Array, tgt: Array) -> tuple[float, Blocks]:
        """Return the loss of the batch and its gradients, by name, from all workers."""
        shards = self._deal(src, tgt)
        with self._threads(len(shards)) as pool:
            return self._add_up(src, tgt, shards, pool)

    def _deal(self, src: Array, tgt: Array) -> list[Array]:
        """Check the batch, as a whole since shards might hide rows that do not match, and share out its rows."""
        functions.check_pairs(src, tgt, self.model.config)
        tokens = (src != self.model.config.pad_id).sum(1) + (tgt[:, 1:] != self.model.config.pad_id).sum(1)
        # A product takes 2 operations for each parameter and token, its backward 4, and a token sees half the model.
        operations = 3 * self.model.params.flat.size * int(tokens.sum())
        return deal(tokens, self.workers if operations >= WORTHWHILE else 1)

    def _add_up(
        self, src: Array, tgt: Array, shards: list[Array], pool: Executor | None
    ) -> tuple[float, Blocks]:
        model, smoothing = self.model, self.smoothing
        counts = [int((tgt[rows, 1:] != model.config.pad_id).sum()) for rows in shards]
        total = GradientSum(len(shards))

        def work(shard: int) -> float:
            rows, share = shards[shard], counts[shard] / max(sum(counts), 1)
            loss, gradients = functions.loss_and_gradients(
                model.params, src[rows], tgt[rows], model.config, smoothing, self._generator(shard), share
            )
            for name, gradient in gradients:
                total.add(shard, name, gradient)
            return share * loss

        loss = sum((map if pool is None else pool.map)(work, range(len(shards))))
        return loss, self._gathered(total.blocks)

    def _gathered(self, blocks: dict[str, Array]) -> Blocks:
        """The gradients as the optimiser is quickest with them: in one buffer, if the model is small."""
        params = self.model.params
        if params.flat.size > SMALL:
            return Blocks(params.shapes, params.side_by_side, blocks)
        grads = params.like()
        for name, block in blocks.items():
            grads.blocks[name][...] = block
        return grads

    @contextlib.contextmanager
    def _threads(self, n: int) -> Iterator[Executor | None]:
        """A pool of n worker threads, with one BLAS thread for each inside the block; None for one worker."""
        if self.keep_memory:
            keep_memory()                                     # before there are threads: they would get arenas
        if n == 1:
            yield None
            return
        if n not in self._pools:
            self._pools[n] = ThreadPoolExecutor(n, "npattn")
        with one_blas_thread():
            yield self._pools[n]

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
