"""`Trainer`: one training step, in worker threads over shards of the batch, on one machine or on many.

**Step**  The rows are dealt out to the workers, whose losses and gradients add up to those of the batch, see
`npattn.training.shards`. Then the gradient is clipped and the optimiser takes its step. Pure functions and a parameter buffer
that nobody writes to meanwhile make the shards independent.

**Ranks**  Under MPI the rows are dealt out to the workers of all ranks, and one sum over the ranks, see
`npattn.training.ranks`, comes before clipping; from there on all ranks do the same.

**Speed**  What makes it fast is in `npattn._internal.system.blas_threads` (BLAS threads, memory), `npattn.transformer.fast.attention` and
`npattn.transformer.fast.packing` (the model's own attention, without pads) and `npattn.optim` (Adam in pieces).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np

from npattn._internal.checks import Array, check_flag, check_number, check_size, shown
from npattn._internal.system.blas_threads import can_limit_blas, cores, one_blas_thread
from npattn._internal.system.memory import keep_memory
from npattn.layers.cross_entropy import SMOOTHING
from npattn.optim import Adam, clip_gradients
from npattn.training.consistency import Consistency
from npattn.training.ranks import Communicator, GradientBuffer, Ranks
from npattn.training.shards import GradientSum, deal
from npattn.transformer import Transformer
from npattn.transformer.batch import check_pairs
from npattn.transformer.fast import transformer as fast
from npattn.transformer.parameters import Blocks, Parameters

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
    - `comm`: an mpi4py communicator whose ranks train together, each with `workers` threads (None: one for each core
      that it need not share). Every rank makes its Trainer, and calls every method, alike: with the same settings, and
      in `step` with the same whole batch, of which it works on its shards. Loss, gradient and parameters are then those
      of one process with as many shards, to rounding, and the same bits on all ranks. Shards are counted through all
      ranks, dropout included. Run a script with `mpiexec -n 4 python -m mpi4py script.py`, which ends the other ranks
      when an exception ends one.

    `steps` counts the steps taken; set it to resume.

    Raises ValueError for an optimizer of other parameters than the model's, a smoothing or a number of workers out of
    range; TypeError for arguments of another type.

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
        comm: Communicator | None = None,
    ) -> None:
        if workers is not None:
            workers = check_size("workers", workers, least=1)
        check_optimizer(model, optimizer)
        self.model, self.optimizer = model, optimizer
        SMOOTHING("smoothing", smoothing)
        self.smoothing = float(smoothing)
        self.clip = None if clip is None else check_number("clip", clip, 0, ends="(]")
        self.ranks = Ranks(comm)
        sharing = self.ranks.sharing_cores()
        own_cores = max(1, cores() // sharing)
        self.workers = min(self.ranks.gather(workers or (own_cores if can_limit_blas() else 1)))
        self._shares_cores = sharing > 1
        self.keep_memory = check_flag("keep_memory", keep_memory)
        self.seed, self.steps = checked_seed(rng), 0
        self._consistency = Consistency(self.ranks, model, optimizer)
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._buffer: Parameters | GradientBuffer | None = None

    def step(self, src: Array, tgt: Array, lr: float | None = None) -> float:
        """Take one step on ids src (B, N_S), tgt (B, N_T) = <bos> … <eos> and pads; return the loss before it.

        The loss is in nats a token. `lr` overrides the optimiser's rate for this step. Raises FloatingPointError, and
        changes nothing, when the loss is not finite; `npattn.clip_gradients` and `Adam.step` name a gradient that is
        not. Before the first step all ranks get the state of rank 0, see `synchronize`, and RanksDiffer is raised
        unless their batches are alike.
        """
        shards = self._deal(src, tgt)
        if self.ranks.size > 1:
            self._consistency.add_batch(src, tgt)
            if not self._consistency.started:
                self.synchronize()
                self.require_alike()
        self._buffer = self._buffer or self._new_buffer()           # to make it takes a twentieth of a step of 15 ms
        with self._threads(len(self._mine(shards))) as pool:
            loss, grads = self._add_up(src, tgt, shards, pool, self._buffer)
            if not math.isfinite(loss):
                raise FloatingPointError(f"step {self.steps + 1}: expected a finite loss, got {loss}")
            if self.clip is not None:
                clip_gradients(grads, self.clip, in_place=True, pool=pool)
            self.optimizer.step(grads, lr, pool=pool)
        self.steps += 1
        return loss

    def loss_and_gradients(self, src: Array, tgt: Array) -> tuple[float, Blocks]:
        """Return the loss of the batch, in nats a token, and its gradients, by name, from all workers.

        src (B, N_S) and tgt (B, N_T) as in `step`, whose errors for a batch it raises.
        """
        self.synchronize()
        shards = self._deal(src, tgt)
        with self._threads(len(self._mine(shards))) as pool:
            return self._add_up(src, tgt, shards, pool, self._new_buffer())

    def _deal(self, src: Array, tgt: Array) -> list[Array]:
        """Check the batch, as a whole since shards might hide rows that do not match, and share out its rows."""
        check_pairs(src, tgt, self.model.config)
        tokens = (src != self.model.config.pad_id).sum(1) + (tgt[:, 1:] != self.model.config.pad_id).sum(1)
        # A product takes 2 operations for each parameter and token, its backward 4, and a token sees half the model.
        operations = 3 * self.model.params.flat.size * int(tokens.sum())
        ranks = self.ranks.size
        return deal(tokens, ranks * (self.workers if operations >= ranks * WORTHWHILE else 1))

    def _add_up(
        self,
        src: Array,
        tgt: Array,
        shards: list[Array],
        pool: Executor | None,
        buffer: Parameters | GradientBuffer | None,
    ) -> tuple[float, Blocks]:
        model, smoothing = self.model, self.smoothing
        counts = [int((tgt[rows, 1:] != model.config.pad_id).sum()) for rows in shards]
        mine = self._mine(shards)
        total = GradientSum(len(mine), buffer and buffer.blocks)

        def work(i: int) -> float:
            shard = mine[i]
            rows, share = shards[shard], counts[shard] / max(sum(counts), 1)
            loss, gradients = fast.loss_and_gradients(
                model.params, src[rows], tgt[rows], model.config, smoothing, self._generator(shard), share
            )
            for name, gradient in gradients:
                total.add(i, name, gradient)
            return share * loss

        loss = sum((map if pool is None else pool.map)(work, range(len(mine))))
        if isinstance(buffer, GradientBuffer):
            if not mine:
                buffer.memory[...] = 0
            return self.ranks.add_up(buffer, loss), buffer
        return loss, buffer or Blocks(model.params.shapes, model.params.side_by_side, total.blocks)

    def _mine(self, shards: list[Array]) -> range:
        """The numbers of the shards that are this rank's; a batch of few rows leaves some ranks none."""
        return range(self.ranks.rank, len(shards), self.ranks.size)

    def _new_buffer(self) -> Parameters | GradientBuffer | None:
        """Where the gradients are to come together: in one buffer if they are to be sent, or if the model is small."""
        if self.ranks.size > 1:
            return GradientBuffer(self.model.params)
        return self.model.params.like() if self.model.params.flat.size <= SMALL else None

    @contextlib.contextmanager
    def _threads(self, n: int) -> Iterator[Executor | None]:
        """A pool of n worker threads, with one BLAS thread for each inside the block; None for one worker or none.

        One worker leaves BLAS its threads, unless other ranks have theirs on the same cores.
        """
        if self.keep_memory:
            keep_memory()                                     # before there are threads: they would get arenas
        if n > 1 and n not in self._pools:
            self._pools[n] = ThreadPoolExecutor(n, "npattn")
        with one_blas_thread() if n > 1 or self._shares_cores else contextlib.nullcontext():
            yield self._pools.get(n)

    def synchronize(self) -> None:
        """Give all ranks the parameters, the optimiser's state, seed and steps of rank 0; the first step does so too.

        From there on they stay the same by themselves. Raises RanksDiffer when models or settings differ.
        """
        if not self._consistency.started:
            self._consistency.start(smoothing=self.smoothing, clip=self.clip)
            self.seed, self.steps = self.ranks.from_first(lambda: (self.seed, self.steps))

    def require_alike(self) -> None:
        """Raise RanksDiffer, naming the ranks, unless parameters and all batches so far are the same to the bit.

        The parameters' checksums are compared, which costs no more than a look at them: do so at every checkpoint.
        """
        self._consistency.check(self.steps)

    def _generator(self, shard: int) -> np.random.Generator | None:
        return None if self.seed is None else np.random.default_rng([self.seed, self.steps, shard])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs besides the model and the optimiser: seed and steps."""
        return {"seed": self.seed, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`. Raises ValueError or TypeError, and changes nothing, for anything else."""
        if not isinstance(state, Mapping) or state.keys() != {"seed", "steps"}:
            raise ValueError(f"state: expected what state_dict returns, got {shown(state)}")
        steps, seed = check_size("state: 'steps'", state["steps"]), state["seed"]
        self.seed, self.steps = None if seed is None else check_size("state: 'seed'", seed), steps
        self._consistency.started = self.ranks.size == 1


def checked_seed(rng: np.random.Generator | int | None) -> int | None:
    """Return the seed, or one that the generator draws."""
    if rng is None or isinstance(rng, np.random.Generator):
        return None if rng is None else int(rng.integers(2**63))
    return check_size("rng", rng)


def check_optimizer(model: Transformer, optimizer: Adam) -> None:
    """Raise unless the optimiser updates the very parameters of the model: another's would train nothing."""
    for symbol, given, kind in (("model", model, Transformer), ("optimizer", optimizer, Adam)):
        if not isinstance(given, kind):
            raise TypeError(f"{symbol}: expected one of the class {kind.__name__}, got {type(given).__name__}")
    for name, parameter in model.params.items():
        if name not in optimizer.params or not np.shares_memory(parameter, optimizer.params[name]):
            raise ValueError(f"optimizer: expected the optimiser of model.params, but {name} is not among its arrays")
