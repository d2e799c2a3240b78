"""The cases that test_ranks.py runs on every rank of MPI. Each returns the results of its rank.

    mpiexec -n 2 python on_ranks.py FOLDER        writes FOLDER/0.pickle and FOLDER/1.pickle

With None for a communicator, a case runs in one process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from npattn import Adam, Trainer
from npattn._internal.checks import Array
from npattn._internal.system import blas_threads
from npattn.training import trainer as training
from npattn.training.ranks import Communicator, Ranks, world
from npattn.transformer.fast import transformer as functions
from support.language_model_toys import toy_language_model
from support.transformer_toys import toy_model

#: Adam's ε: far above the gradient of b_K, which is rounding noise, so b_K does not move; small beside the others.
EPS = 1e-6


def trainer(comm: Communicator | None, *, seed: int = 0, dropout: float = 0.0, dtype: Any = np.float64,
            lr: float = 0.01, **options: Any) -> Trainer:  # fmt: skip
    model = toy_model(dtype=dtype, n_encoder_layers=1, n_decoder_layers=1, dropout=dropout, seed=seed)
    given = {"clip": 0.5, "workers": 1} | options
    return Trainer(model, Adam(model.params, lr=lr, eps=EPS), comm=comm, **given)


def batches(*rows: int) -> Iterator[tuple[Array, Array]]:
    """Yield one batch for each number of rows; targets have 1 to 5 symbols."""
    rng = np.random.default_rng(7)
    for B in rows:
        src, tgt = rng.integers(3, 9, (B, 5)), rng.integers(3, 11, (B, 7))
        tgt[:, 0] = 1
        for row, n in zip(tgt, rng.integers(2, 7, B), strict=True):
            row[n], row[n + 1 :] = 2, 0
        yield src, tgt


def state(it: Trainer) -> dict[str, Any]:
    return {"params": it.model.params.flat.copy(), "adam": it.optimizer.state_dict(), "trainer": it.state_dict()}


def failure(call: Any) -> tuple[str, str]:
    """Return the class of the exception that a call raises, and its message."""
    try:
        call()
    except Exception as error:                                # any error is the answer that the tests compare
        return type(error).__name__, str(error)
    return "", ""


def rank_of(comm: Communicator | None) -> int:
    return 0 if comm is None else comm.Get_rank()


def steps(comm: Communicator | None, workers: int = 1, **options: Any) -> dict[str, Any]:
    """Take some steps; small batches leave ranks without a row. Only rank 0 begins with the right parameters."""
    it = trainer(comm, seed=rank_of(comm), workers=workers, **options)
    with mock.patch.object(training, "MIN_OPERATIONS", 0.0):
        losses = [it.step(*batch) for batch in batches(7, 4, 1, 6, 2, 9)]
    it.require_alike()
    return state(it) | {"losses": losses}


def dropout(comm: Communicator | None, workers: int = 1) -> dict[str, Any]:
    return steps(comm, workers, dropout=0.3, rng=rank_of(comm) + 5)


def text(comm: Communicator | None, workers: int = 1) -> dict[str, Any]:
    """Take steps with a language model, with dropout and pads; only rank 0 begins with the right parameters."""
    model = toy_language_model("geglu", seed=rank_of(comm))
    it = Trainer(model, Adam(model.params, lr=0.01), comm=comm, clip=0.5, workers=workers, rng=rank_of(comm) + 5)
    with mock.patch.object(training, "MIN_OPERATIONS", 0.0):
        losses = [it.step(np.minimum(tgt, 6)) for _, tgt in batches(7, 4, 1, 6)]
    it.require_alike()
    return state(it) | {"losses": losses}


def two_workers(comm: Communicator | None, workers: int = 2) -> dict[str, Any]:
    return dropout(comm, workers)


def float32(comm: Communicator | None) -> dict[str, Any]:
    return steps(comm, dtype=np.float32)


def gradients(comm: Communicator | None) -> Any:
    """Return the gradients of a batch of two rows, and of one without a real token."""
    it = trainer(comm)
    ((src, tgt),) = batches(2)
    loss, grads = it.loss_and_gradients(src, tgt)
    nothing, zeros = it.loss_and_gradients(src, np.where(np.arange(7) == 0, tgt, 0))
    return loss, {name: grad.copy() for name, grad in grads.items()}, nothing, max(abs(z).max() for z in zeros.values())


def resumes(comm: Communicator | None) -> dict[str, Any]:
    """Rank 0 loads a state of two steps; all ranks continue from it."""
    it, all_batches = trainer(comm, rng=1, dropout=0.3), list(batches(5, 6, 7, 8))
    if rank_of(comm) == 0:
        alone = trainer(None, rng=1, dropout=0.3, seed=3)
        for batch in all_batches[:2]:
            alone.step(*batch)
        it.model.params.flat[:] = alone.model.params.flat
        it.optimizer.load_state_dict(alone.optimizer.state_dict())
        it.load_state_dict(alone.state_dict())
    it.synchronize()
    before = state(it)
    losses = [it.step(*batch) for batch in all_batches[2:]]
    return {"before": before, "after": state(it), "losses": losses}


def not_finite(comm: Communicator | None) -> Any:
    """Only the last rank gets a loss, and then a gradient, that is not finite."""
    it = trainer(comm)
    batch, other = batches(6, 6)
    it.step(*batch)
    before, real, failures = state(it), functions.loss_and_gradients, []
    last = comm is None or comm.Get_rank() == comm.Get_size() - 1

    def overflow(loss: float, gradient: float) -> Any:
        def patched(*args: Any) -> Any:
            value, grads = real(*args)
            blocks = [(name, np.full_like(grad, gradient) if "norm_1.gamma" in name else grad) for name, grad in grads]
            return value + loss, iter(blocks)

        return patched if last else real

    for loss, gradient in ((np.inf, 0.0), (0.0, np.nan)):
        with mock.patch.object(functions, "loss_and_gradients", overflow(loss, gradient)):
            failures.append(failure(lambda: it.step(*other)))
    return failures, pickle.dumps(before) == pickle.dumps(state(it)), it.step(*other)


def drift(comm: Communicator | None) -> Any:
    """Change a parameter of rank 1 by one unit in the last place."""
    it = trainer(comm)
    for batch in batches(4, 4):
        it.step(*batch)
    before = failure(it.require_alike)
    if rank_of(comm) == 1:
        flat = it.model.params.flat
        flat[3] = np.nextafter(flat[3], 1)
    return before, failure(it.require_alike)


def other_batches(comm: Communicator | None) -> Any:
    """Give the last rank another batch: in the first step, and in the second."""
    a, b, c = batches(4, 4, 4)
    last = comm is not None and comm.Get_rank() == comm.Get_size() - 1
    at_once = failure(lambda: trainer(comm).step(*(b if last else a)))
    it = trainer(comm)
    it.step(*a)
    it.step(*(c if last else b))
    return at_once, failure(it.require_alike)


def other_settings(comm: Communicator | None) -> Any:
    last = comm is not None and comm.Get_rank() == comm.Get_size() - 1
    (batch,) = batches(4)
    return [
        failure(lambda options=different if last else {}: trainer(comm, **options).step(*batch))
        for different in ({"clip": None}, {"lr": 0.5}, {"smoothing": 0.2}, {"dropout": 0.1})
    ]


def stop(comm: Communicator | None) -> Any:
    """The last rank requests to stop during the second step, and no rank during the third."""
    it, must_stop = trainer(comm), []
    last = comm is None or comm.Get_rank() == comm.Get_size() - 1
    it.ranks.stop_requested = lambda: last and it.steps == 1
    for batch in batches(3, 3, 3):
        it.step(*batch)
        must_stop.append(it.ranks.must_stop())
    return must_stop


def messages(comm: Communicator | None) -> Any:
    ranks = Ranks(comm)
    called: list[int] = []

    def broken() -> None:
        called.append(ranks.rank)
        raise OSError(28, "No space left on device", "file")

    numbers = np.full(3, float(ranks.rank))
    ranks.copy_first([numbers, alone := np.array(ranks.rank + 4)])
    return {
        "from_first": ranks.from_first(lambda: ("rank", ranks.rank)),
        "broken": failure(lambda: ranks.from_first(broken)),
        "called": called,
        "gather": ranks.gather(ranks.rank),
        "share_out": [ranks.share_out(lambda items: [10 * i for i in items], list(range(n))) for n in (0, 1, 7)],
        "copies": (numbers.tolist(), int(alone)),
        "sharing": ranks.sharing_cores(),
        "workers": trainer(comm, workers=2 + rank_of(comm)).workers,
        "cores": (blas_threads.cores(), trainer(comm, workers=None).workers),
    }


def enough_work(comm: Communicator | None) -> list[int]:
    """Return how many shards of 7 rows this rank gets: with just enough work for two threads a rank, and with less."""
    it, real, shards = trainer(comm, workers=2), functions.loss_and_gradients, []
    ((src, tgt),) = batches(7)
    operations = 3 * it.model.params.flat.size * int((src != 0).sum() + (tgt[:, 1:] != 0).sum())

    def counted(*args: Any) -> Any:
        shards[-1] += 1
        return real(*args)

    patch = mock.patch.object(functions, "loss_and_gradients", counted)
    for least in (operations - 1, operations + 1):
        shards.append(0)
        with mock.patch.object(training, "MIN_OPERATIONS", least / it.ranks.size), patch:
            it.step(src, tgt)
    return shards


def blas(comm: Communicator | None) -> Any:
    """Return the BLAS threads of one worker, in a process whose BLAS has two."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return None
    import threadpoolctl

    it, real, threads = trainer(comm), functions.loss_and_gradients, []

    def watched(*args: Any) -> Any:
        threads.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
        return real(*args)

    patch = mock.patch.object(functions, "loss_and_gradients", watched)
    no_short_step = mock.patch.object(training, "MIN_OPERATIONS", 0.0)
    with threadpoolctl.threadpool_limits(2, user_api="blas"), patch, no_short_step:
        it.step(*next(batches(6)))
    return set(threads)


CASES = {
    case.__name__: case
    for case in (steps, dropout, text, two_workers, float32, gradients, resumes, not_finite, drift, other_batches,
                 other_settings, stop, messages, enough_work, blas)
}  # fmt: skip


def main(folder: str) -> None:
    comm = world()
    results = {name: case(comm) for name, case in CASES.items()}
    Path(folder, f"{comm.Get_rank()}.pickle").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1])
