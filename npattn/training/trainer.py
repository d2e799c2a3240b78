"""`Trainer`: one training step, in worker threads over shards of the batch, on one machine or on many.

**Step**  The rows of the batch are divided into shards, one for each worker. Their losses and gradients add up to those
of the batch, see `npattn.training.shards`. Then the gradient is clipped and the optimiser takes its step. Shards are
independent: the functions are pure, and the parameters do not change before all gradients are added.

**Ranks**  Under MPI the rows are divided among the workers of all ranks. One sum over the ranks comes before clipping,
see `npattn.training.ranks`. From there on all ranks do the same.

**Models**  A Transformer learns from pairs, src and tgt; a LanguageModel learns from rows of text, ids.
`npattn.training.models` has what differs between them.

**Speed**  Three places make it fast: `npattn._internal.system` (BLAS threads, memory), `npattn.transformer.fast` (the
model's attention, without pads) and `npattn.optim` (Adam in pieces).
"""

from __future__ import annotations

import contextlib
import math
import os
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
from npattn.training.models import Model, steps_of
from npattn.training.ranks import Communicator, GradientBuffer, Ranks
from npattn.training.shards import GradientSum, deal, write_gradients
from npattn.transformer.fast.gradient import computed
from npattn.transformer.parameters import Blocks, Parameters

#: Steps of fewer operations take one worker: in short steps, threads wait for each other to release Python's lock.
#: Two threads took 1.2 to 1.5 times the time of one for steps of 1.3e9 operations, 0.8 to 1.2 times for 2.6e9, the same
#: time for 6e9, and 0.8 times for 12e9. BLAS too gets one thread in them: its threads wait for each other in every
#: product, and beside busy processes a step of 21 ms took 810 ms with two. Instead a second thread computes gradients
#: of weight matrices while the first goes on with the backward: a step took 6.7 ms instead of 8.0 ms, and 8 to 9 ms
#: beside a busy process. With two threads of BLAS it took 6.4 ms, and 14 to 300 ms beside a busy process.
MIN_OPERATIONS = 4e9

#: A feed-forward matrix of so many numbers makes short steps keep the threads of BLAS: its products gain by them even
#: with few tokens. With 512 × 2048 two threads took 0.84 times the time of one for 12 tokens, and 0.67 times for 24.
LARGE_MATRIX = 1 << 20

#: Models of more parameters get no buffer for all gradients. In small models, copying the gradients into one buffer
#: costs less than an update block by block: of a step of 15 ms with 230,000 parameters, Adam took 3 ms in blocks and
#: 1 ms in one buffer. Large models would lose time and memory by it.
MAX_BUFFERED = 1 << 21


class Trainer:
    """Train `model` with `optimizer`, one `step` for each batch.

    - model, optimizer: a Transformer or a LanguageModel, and an Adam that updates its parameters.
    - smoothing: label smoothing ε of the loss, 0 ≤ ε < 1.
    - clip: the largest norm of the gradient, above 0; None for no limit.
    - workers: the largest number of threads, 1 or more. Each has a shard of the batch and one BLAS thread; after the
      step BLAS has as many threads as before. None: one for each core if threadpoolctl (the extra `fast`) is installed;
      otherwise one, and BLAS keeps its threads. Steps of fewer than 4e9 operations take one worker, which is quicker,
      and one BLAS thread if the matrices of the feed-forward layers have fewer than 2²⁰ numbers; a second thread, if
      `workers` allows one, then computes gradients of weights meanwhile.
    - rng: an integer seed or a numpy.random.Generator for dropout; None trains without dropout. Each shard of each step
      has its own generator, made from the seed and the numbers of step and shard. So the same seed and number of
      workers give the same bits, and a resumed run needs only the seed and the number of steps.
    - keep_memory: True makes glibc keep freed memory from the first step on, see `npattn.keep_memory`. That setting
      holds for the whole process, and `npattn.return_memory()` undoes it. False leaves it alone.
    - comm: an mpi4py communicator whose ranks train together; None for this process alone.

    With `comm`, each rank has `workers` threads (None: one for each core, divided among the ranks that share them).
    Every rank makes its Trainer with the same settings and calls the same methods. Every rank passes the same whole
    batch to `step` and works on its own shards. Loss, gradient and parameters are those of one process with as many
    shards, to rounding, and the same bits on all ranks. Shards are numbered through all ranks, for dropout too. Run a
    script with `mpiexec -n 4 python -m mpi4py script.py`: when an exception ends one rank, it ends the others.

    The attribute `steps` counts the steps taken; set it to resume. Without `comm` a trainer can be pickled. A forked
    process can go on with it.

    Raises ValueError for an optimizer of other parameters than the model's and for a number out of range, TypeError for
    an argument of another type.

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
        model: Model,
        optimizer: Adam,
        *,
        smoothing: float = 0.1,
        clip: float | None = None,
        workers: int | None = None,
        rng: np.random.Generator | int | None = None,
        keep_memory: bool = True,
        comm: Communicator | None = None,
    ) -> None:
        check_optimizer(model, optimizer)
        SMOOTHING("smoothing", smoothing)
        self.model, self.optimizer, self.smoothing = model, optimizer, float(smoothing)
        self._model_steps = steps_of(model)
        self.clip = None if clip is None else check_number("clip", clip, 0, ends="(]")
        self.keep_memory = check_flag("keep_memory", keep_memory)
        seed = int(rng.integers(2**63)) if isinstance(rng, np.random.Generator) else rng
        self.seed, self.steps = None if seed is None else check_size("rng", seed), 0
        if workers is not None:
            workers = check_size("workers", workers, least=1)
        self.ranks = Ranks(comm)
        sharing = self.ranks.sharing_cores()
        self._shares_cores = sharing > 1
        workers = workers or (max(1, cores() // sharing) if can_limit_blas() else 1)
        self.workers = min(self.ranks.gather(workers))
        self._consistency = Consistency(self.ranks, model, optimizer)
        self._buffer: Parameters | GradientBuffer | None = None
        self._pool: tuple[int, Executor] | None = None        # with the number of the process that has its threads

    @property
    def steps(self) -> int:
        """The number of steps taken, 0 or more."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self._steps = check_size("steps", steps)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None, "_buffer": None}   # threads cannot be pickled, the buffer need not be

    def step(self, *batch: Array, lr: float | None = None) -> float:
        """Take one step on a batch; return its loss before the step, in nats a token.

        - batch: of a Transformer src and tgt, ids (B, N_S) and (B, N_T), padded; each row of tgt is <bos> … <eos>. Of a
          LanguageModel ids (B, N), padded; position i is asked for id i + 1.
        - lr: the rate of this step; None for the optimiser's own.

        Raises FloatingPointError, and changes nothing, when the loss is not finite. `npattn.clip_gradients` and
        `Adam.step` raise a ValueError that names a gradient which is not finite. Raises TypeError, ValueError or
        IndexError for a batch of another type or shape, or with ids outside the vocabulary. Before the first step all
        ranks get the state of rank 0, see `synchronize`; RanksDiffer is raised unless their batches are alike.
        """
        shards, is_short = self._own_shards(batch)
        if self.ranks.size > 1:
            self._consistency.add_batch(batch)
            if not self._consistency.started:
                self.synchronize()
                self.require_alike()
        self._buffer = self._buffer or self._new_buffer()           # a new one takes a twentieth of a step of 15 ms
        with self._threads(len(shards), is_short) as (pool, helper):
            loss, grads = self._add_up(batch, shards, pool, helper, self._buffer)
            if not math.isfinite(loss):
                raise FloatingPointError(f"step {self.steps + 1}: expected a finite loss, got {loss}")
            if self.clip is not None:
                clip_gradients(grads, self.clip, in_place=True, pool=pool)
            self.optimizer.step(grads, lr, pool=pool)
        self.steps += 1
        return loss

    def loss_and_gradients(self, *batch: Array) -> tuple[float, Blocks]:
        """Return the loss of a batch, in nats a token, and its gradients, by name, from all workers.

        - batch: ids (B, N_S) and (B, N_T) of a Transformer, or (B, N) of a LanguageModel, as in `step`.

        Raises what `step` raises for a batch: TypeError, ValueError or IndexError.
        """
        self.synchronize()
        shards, is_short = self._own_shards(batch)
        with self._threads(len(shards), is_short) as (pool, helper):
            return self._add_up(batch, shards, pool, helper, self._new_buffer())

    def _own_shards(self, batch: tuple[Array, ...]) -> tuple[list[tuple[int, Array, float]], bool]:
        """Check the whole batch and divide it into shards; return number, rows and share n_i/n of each of this rank.

        A batch of few rows leaves some ranks without a shard. Return also whether the step is too short for threads,
        those of BLAS included, see `MIN_OPERATIONS` and `LARGE_MATRIX`.
        """
        steps = self._model_steps
        if len(batch) != len(steps.arrays):
            got = f"{len(batch)} argument{'s' * (len(batch) != 1)}"
            raise TypeError(f"batch: expected {' and '.join(steps.arrays)}, got {got}")
        steps.check(batch)
        tokens, real = steps.tokens(batch)
        operations = steps.operations * self.model.params.flat.size * int(tokens.sum())
        ranks = self.ranks.size
        is_short = operations < ranks * MIN_OPERATIONS
        shards = enumerate(deal(tokens, ranks * (1 if is_short else self.workers)))
        n = max(int(real.sum()), 1)
        own = [(i, rows, int(real[rows].sum()) / n) for i, rows in shards][self.ranks.rank :: ranks]
        return own, is_short and self.model.config.d_model * self.model.config.d_ff < LARGE_MATRIX

    def _add_up(
        self,
        batch: tuple[Array, ...],
        shards: list[tuple[int, Array, float]],
        pool: Executor | None,
        helper: Executor | None,
        buffer: Parameters | GradientBuffer | None,
    ) -> tuple[float, Blocks]:
        """Return loss and gradients of the batch: the sum over the shards of this rank, then over all ranks."""
        model = self.model
        total = GradientSum(len(shards), buffer and buffer.blocks)

        def work(place: int) -> float:
            number, rows, share = shards[place]
            rng = None if self.seed is None else np.random.default_rng([self.seed, self.steps, number])
            loss, gradients = self._model_steps.gradients([ids[rows] for ids in batch], self.smoothing, rng, share)
            if buffer and len(shards) == 1:
                write_gradients(gradients, buffer.blocks, helper)
            else:
                for name, gradient in gradients:
                    total.add(place, name, computed(gradient))
            return share * loss

        loss = sum((map if pool is None else pool.map)(work, range(len(shards))))
        if isinstance(buffer, GradientBuffer):
            if not shards:
                buffer.memory[...] = 0
            return self.ranks.add_up(buffer, loss), buffer
        return loss, buffer or Blocks(model.params.shapes, model.params.side_by_side, total.blocks)

    def _new_buffer(self) -> Parameters | GradientBuffer | None:
        """Return one buffer for all gradients if they are to be sent, or if the model is small; otherwise None."""
        if self.ranks.size > 1:
            return GradientBuffer(self.model.params)
        return self.model.params.like() if self.model.params.flat.size <= MAX_BUFFERED else None

    @contextlib.contextmanager
    def _threads(self, shards: int, is_short: bool) -> Iterator[tuple[Executor | None, Executor | None]]:
        """Give the block threads with one BLAS thread each: workers for several shards, or a helper in a short step.

        For one shard BLAS keeps its threads, unless the step is too short or other ranks compute on the same cores.
        """
        has_helper = shards == 1 and is_short and self.workers > 1 and can_limit_blas()
        if self.keep_memory:
            keep_memory()                                     # before threads start: each would get an arena
        is_ours = self._pool is not None and self._pool[0] == os.getpid()   # a forked process has no threads
        if (shards > 1 or has_helper) and not is_ours:
            self._pool = os.getpid(), ThreadPoolExecutor(self.workers, "npattn")
        with one_blas_thread() if shards > 1 or is_short or self._shares_cores else contextlib.nullcontext():
            threads = self._pool and self._pool[1]
            yield threads if shards > 1 else None, threads if has_helper else None

    def synchronize(self) -> None:
        """Copy parameters, optimiser state, seed and steps of rank 0 to all ranks. The first step calls it too.

        Afterwards all ranks stay the same without it. Raises RanksDiffer when models or settings differ.
        """
        if not self._consistency.started:
            self._consistency.start(smoothing=self.smoothing, clip=self.clip)
            self.seed, self.steps = self.ranks.from_first(lambda: (self.seed, self.steps))

    def require_alike(self) -> None:
        """Raise RanksDiffer, naming the ranks, unless parameters and all batches so far are the same to the bit.

        It compares checksums, which takes as long as reading the parameters once. Call it at every checkpoint.
        """
        self._consistency.check(self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs besides the model and the optimiser: seed and steps."""
        return {"seed": self.seed, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        - state: what `state_dict` returned.

        Raises ValueError or TypeError, and changes nothing, for anything else.
        """
        if not isinstance(state, Mapping) or state.keys() != {"seed", "steps"}:
            raise ValueError(f"state: expected what state_dict returns, got {shown(state)}")
        steps, seed = check_size("state: 'steps'", state["steps"]), state["seed"]
        self.seed, self.steps = None if seed is None else check_size("state: 'seed'", seed), steps
        self._consistency.started = self.ranks.size == 1


def check_optimizer(model: Model, optimizer: Adam) -> None:
    """Raise unless the optimiser updates the arrays of the model itself: an optimiser of copies would train nothing."""
    for symbol, given, wanted, kind in (
        ("model", model, "a Transformer or a LanguageModel", Model),
        ("optimizer", optimizer, "one of the class Adam", Adam),
    ):
        if not isinstance(given, kind):
            raise TypeError(f"{symbol}: expected {wanted}, got {type(given).__name__}")
    for name, parameter in model.params.items():
        if name not in optimizer.params or not np.shares_memory(parameter, optimizer.params[name]):
            raise ValueError(f"optimizer: expected the optimiser of model.params, but {name} is not among its arrays")
