"""`Trainer`: any number of workers gives the same loss and gradients; a step that fails changes nothing."""

from __future__ import annotations

import copy
import math
import multiprocessing
import os
import pickle
import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npattn
from npattn import Adam, Trainer, Transformer, clip_gradients
from npattn._internal.checks import Array
from npattn._internal.system import blas_threads, memory
from npattn.training import trainer as training
from npattn.transformer.fast import transformer as functions
from support.transformer_toys import deviation, toy_model

# Three rows of 3, 1 and 2 real target tokens: shards of different weight.
SRC = np.array([[4, 5, 4, 8], [6, 6, 7, 0], [5, 0, 0, 0]])
TGT = np.array([[1, 7, 7, 2], [1, 2, 0, 0], [1, 9, 2, 0]])


@pytest.fixture(autouse=True)
def every_step_uses_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use threads for toy batches too, far below `MIN_OPERATIONS`; TestThreads tests the limit."""
    monkeypatch.setattr(training, "MIN_OPERATIONS", 0.0)


def trainer(model: Transformer | None = None, **options: Any) -> Trainer:
    model = toy_model(n_encoder_layers=1, n_decoder_layers=1) if model is None else model
    return Trainer(model, Adam(model.params, lr=0.01), **{"workers": 1} | options)


def small_model(dropout: float = 0.0, dtype: Any = np.float64, **options: Any) -> Transformer:
    return toy_model(dtype=dtype, n_encoder_layers=1, n_decoder_layers=1, dropout=dropout, **options)


def snapshot(it: Trainer) -> tuple[Any, ...]:
    """Return the bits of everything that a step changes."""
    adam = {name: array.tobytes() for name, array in it.optimizer.state_dict().items()}
    return it.model.params.flat.tobytes(), adam, it.state_dict()


class TestShards:
    @given(st.integers(0, 2**32), st.integers(1, 7), st.sampled_from([2, 3, 4]))
    def test_any_number_of_workers_gives_the_same(self, seed: int, B: int, workers: int) -> None:
        """Loss and gradients of the whole batch are the same to rounding."""
        rng = np.random.default_rng(seed)
        src, tgt = rng.integers(3, 9, (B, 5)), rng.integers(3, 11, (B, 6))
        tgt[:, 0] = 1
        for row, n in zip(tgt, rng.integers(1, 6, B), strict=True):
            row[n], row[n + 1 :] = 2, 0
        model = small_model()
        loss, grads = model.loss_and_gradients(src, tgt, smoothing=0.2)
        got_loss, got = trainer(model, workers=workers, smoothing=0.2).loss_and_gradients(src, tgt)
        assert type(got_loss) is float
        assert got_loss == pytest.approx(loss, rel=1e-12)
        assert deviation(got, grads) < 1e-12

    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_shards_weigh_as_much_as_their_real_tokens(self, workers: int) -> None:
        """The loss is the mean over all six tokens, not the mean of the shards' means."""
        model = small_model()
        rows = [model.loss_and_gradients(SRC[b : b + 1], TGT[b : b + 1]) for b in range(3)]
        shares = [3 / 6, 1 / 6, 2 / 6]
        loss, grads = trainer(model, workers=workers).loss_and_gradients(SRC, TGT)
        assert loss == pytest.approx(sum(share * row[0] for share, row in zip(shares, rows, strict=True)), rel=1e-12)
        expected = {name: sum(s * row[1][name] for s, row in zip(shares, rows, strict=True)) for name in grads}
        assert deviation(grads, expected) < 1e-13

    def test_a_shard_of_pads_alone(self) -> None:
        tgt = TGT.copy()
        tgt[1, 1:] = 0
        model = small_model()
        loss, grads = trainer(model, workers=3).loss_and_gradients(SRC, tgt)
        expected, expected_grads = model.loss_and_gradients(SRC, tgt)
        assert loss == pytest.approx(expected, rel=1e-12)
        assert deviation(grads, expected_grads) < 1e-12

    @pytest.mark.parametrize("workers", [1, 2])
    def test_no_real_token_at_all(self, workers: int) -> None:
        tgt = np.array([[1, 0], [1, 0], [1, 0]])
        for src, targets in ((SRC, tgt), (SRC[:0], tgt[:0])):
            loss, grads = trainer(workers=workers).loss_and_gradients(src, targets)
            assert loss == 0
            assert not any(gradient.any() for gradient in grads.values())

    def test_every_row_is_in_one_shard(self, monkeypatch: pytest.MonkeyPatch) -> None:
        it = trainer(workers=4)
        calls = record(monkeypatch)
        it.loss_and_gradients(SRC, TGT)                       # fewer rows than workers
        assert sorted(len(call["src"]) for call in calls) == [1, 1, 1]
        np.testing.assert_array_equal(sorted(call["src"][0].tolist() for call in calls), sorted(SRC.tolist()))

    def test_workers_are_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        it = trainer(workers=2)
        calls = record(monkeypatch)
        it.loss_and_gradients(SRC, TGT)
        assert all(call["thread"].startswith("npattn") for call in calls)
        it = trainer(workers=1)
        calls = record(monkeypatch)
        it.loss_and_gradients(SRC, TGT)
        assert [call["thread"] for call in calls] == [threading.current_thread().name]

    def test_float32_is_kept(self) -> None:
        it = trainer(small_model(dtype=np.float32), workers=2)
        assert {gradient.dtype for gradient in it.loss_and_gradients(SRC, TGT)[1].values()} == {np.dtype(np.float32)}


def record(monkeypatch: pytest.MonkeyPatch, extra: Any = lambda: None) -> list[dict[str, Any]]:
    """Return a list that receives the arguments of every shard from now on, and what `extra` returns at that time."""
    calls: list[dict[str, Any]] = []
    inner = functions.loss_and_gradients

    def outer(params: Any, src: Array, tgt: Array, config: Any, smoothing: float, rng: Any, share: float) -> Any:
        number = None if rng is None else copy.deepcopy(rng).random()
        thread = threading.current_thread().name
        calls.append({"src": src, "smoothing": smoothing, "number": number, "thread": thread, "extra": extra()})
        return inner(params, src, tgt, config, smoothing, rng, share)

    monkeypatch.setattr(functions, "loss_and_gradients", outer)
    return calls


each_dropout = pytest.mark.parametrize("rates", [{"dropout": 0.4}, {"attention_dropout": 0.4}], ids=min)


class TestDropout:
    @each_dropout
    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_the_same_seed_and_workers_give_the_same_bits(self, workers: int, rates: dict[str, float]) -> None:
        ends = []
        for seed in (3, 3, 4):
            it = trainer(small_model(**rates), workers=workers, rng=seed)
            losses = [it.step(SRC, TGT) for _ in range(3)]
            ends.append((losses, snapshot(it)[:2]))
        assert ends[0] == ends[1]
        assert ends[0] != ends[2]

    def test_each_shard_of_each_step_draws_other_numbers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        it = trainer(small_model(dropout=0.4), workers=3, rng=0)
        calls = record(monkeypatch)
        for _ in range(3):
            it.step(SRC, TGT)
        assert len({call["number"] for call in calls}) == len(calls) == 9

    @each_dropout
    def test_a_resumed_trainer_draws_what_it_would_have_drawn(self, rates: dict[str, float]) -> None:
        first = trainer(small_model(**rates), workers=2, rng=7)
        losses = [first.step(SRC, TGT) for _ in range(4)]
        stopped = trainer(small_model(**rates), workers=2, rng=7)
        assert [stopped.step(SRC, TGT) for _ in range(2)] == losses[:2]
        resumed = trainer(copy.deepcopy(stopped.model), workers=2)
        resumed.optimizer.load_state_dict(stopped.optimizer.state_dict())
        resumed.load_state_dict(stopped.state_dict())
        assert resumed.steps == 2
        assert [resumed.step(SRC, TGT) for _ in range(2)] == losses[2:]
        assert snapshot(resumed) == snapshot(first)

    @each_dropout
    def test_no_dropout_without_a_seed(self, rates: dict[str, float]) -> None:
        model = small_model(**rates)
        loss, _ = model.loss_and_gradients(SRC, TGT)
        assert trainer(model).step(SRC, TGT) == loss

    def test_a_generator_gives_a_seed(self) -> None:
        it = trainer(rng=np.random.default_rng(5))
        assert it.seed == int(np.random.default_rng(5).integers(2**63))
        assert type(it.state_dict()["seed"]) is int
        assert trainer(rng=11).seed == 11
        assert trainer().seed is None


class TestStep:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_equals_adam_on_the_gradients(self, workers: int) -> None:
        it = trainer(small_model(), workers=workers, smoothing=0.3)
        twin = small_model()
        adam = Adam(twin.params, lr=0.01)
        for _ in range(2):
            loss, grads = trainer(twin, workers=workers, smoothing=0.3).loss_and_gradients(SRC, TGT)
            adam.step(grads)
            assert it.step(SRC, TGT) == loss
        np.testing.assert_array_equal(it.model.params.flat, twin.params.flat)
        assert it.steps == 2

    def test_smoothing_is_that_of_the_loss(self, monkeypatch: pytest.MonkeyPatch) -> None:
        it = trainer(workers=2, smoothing=0.35)
        calls = record(monkeypatch)
        it.step(SRC, TGT)
        assert [call["smoothing"] for call in calls] == [0.35, 0.35]
        it = trainer()
        calls = record(monkeypatch)
        it.step(SRC, TGT)
        assert [call["smoothing"] for call in calls] == [0.1]

    def test_rate_for_one_step(self) -> None:
        it, other = trainer(), trainer()
        it.step(SRC, TGT, lr=0.5)
        other.optimizer.lr = 0.5
        other.step(SRC, TGT)
        assert snapshot(it) == snapshot(other)
        still, before = trainer(), small_model().params.flat
        still.step(SRC, TGT, lr=0.0)
        np.testing.assert_array_equal(still.model.params.flat, before)

    def test_clips_before_the_optimiser(self) -> None:
        """The norm is that of the whole gradient, after the shards are added."""
        it, twin = trainer(workers=2, clip=0.01), small_model()
        _, grads = trainer(twin, workers=2).loss_and_gradients(SRC, TGT)
        clipped, norm = clip_gradients(grads, 0.01)
        assert norm > 0.1
        Adam(twin.params, lr=0.01, eps=1e-9).step(clipped)
        it.step(SRC, TGT)
        np.testing.assert_array_equal(it.model.params.flat, twin.params.flat)
        seen = []
        it.optimizer.step = lambda grads, lr=None, pool=None: seen.append(dict(grads))  # type: ignore[method-assign]
        it.step(SRC, TGT)
        assert np.sqrt(sum((gradient**2).sum() for gradient in seen[0].values())) == pytest.approx(0.01, rel=1e-12)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_toy_task_is_learnt(self, workers: int) -> None:
        """The task is to copy four letters; the loss falls from that of a uniform guess to below 0.5."""
        model = Transformer(toy_model(d_model=16, d_ff=32, tgt_vocab=9, n_encoder_layers=1, n_decoder_layers=1).config)
        it = Trainer(model, Adam(model.params), smoothing=0.0, clip=1.0, workers=workers, rng=0)
        rng = np.random.default_rng(0)
        losses = []
        for step in range(120):
            src = rng.integers(4, 9, (32, 4))
            tgt = np.pad(src, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 2)))
            losses.append(it.step(src, tgt, lr=0.01 * min(1.0, (step + 1) / 20)))
        assert losses[0] > 1.8
        assert np.mean(losses[-5:]) < 0.5

    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_batch_is_not_changed(self, workers: int) -> None:
        src, tgt = SRC.copy(), TGT.copy()
        src.setflags(write=False)
        tgt.setflags(write=False)
        trainer(small_model(dropout=0.3), workers=workers, rng=0).step(src, tgt)


class TestFailures:
    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")   # from inf − inf
    def test_a_loss_that_is_not_finite_changes_nothing(self, workers: int, value: float) -> None:
        it = trainer(small_model(dropout=0.3), workers=workers, rng=0)
        it.step(SRC, TGT)
        it.model.params["decoder.0.norm_3.beta"][2] = value
        before = snapshot(it)
        with pytest.raises(FloatingPointError, match=r"^step 2: expected a finite loss, got nan$"):
            it.step(SRC, TGT)
        assert snapshot(it) == before

    @pytest.mark.parametrize("clip", [None, 1.0])
    def test_a_gradient_that_is_not_finite_changes_nothing(
        self, clip: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        it = trainer(clip=clip)
        grads = it.model.params.like()
        grads["encoder.0.norm_1.gamma"][4] = np.inf
        monkeypatch.setattr(functions, "loss_and_gradients", lambda *args: (1.0, iter(grads.blocks.items())))
        before = snapshot(it)
        with pytest.raises(ValueError, match=r"gradient of 'encoder\.0\.norm_1\.gamma'.*\(4,\)"):
            it.step(SRC, TGT)
        assert snapshot(it) == before

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize(
        ("src", "tgt", "error", "message"),
        [
            (SRC, TGT[:2], ValueError, r"^tgt: expected \(B=3, N_T\), got \(2, 4\)$"),
            (SRC[:2], TGT, ValueError, r"^tgt: expected \(B=2, N_T\), got \(3, 4\)$"),
            (SRC, TGT[0], ValueError, r"^tgt: expected ids \(B, N\), got \(4,\)$"),
            (SRC, TGT[:, :1], ValueError, r"^tgt: expected ids .* at least two, got \("),
            (SRC.tolist(), TGT, TypeError, r"^src: expected an integer array, got list$"),
            (SRC, TGT + 9, IndexError, r"^tgt: expected ids from 0 to 10, got 18$"),
        ],
    )
    def test_bad_batches(self, workers: int, src: Any, tgt: Any, error: type[Exception], message: str) -> None:
        it = trainer(workers=workers)
        before = snapshot(it)
        with pytest.raises(error, match=message):
            it.step(src, tgt)
        assert snapshot(it) == before

    @pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
    def test_smoothing_out_of_range(self, smoothing: float) -> None:
        model = small_model()
        with pytest.raises(ValueError, match=r"^smoothing: expected 0 ≤ smoothing < 1, got "):
            trainer(model, smoothing=smoothing)
        with pytest.raises(ValueError, match=r"^smoothing: expected 0 ≤ smoothing < 1, got "):
            model.loss_and_gradients(SRC, TGT, smoothing=smoothing)
        assert trainer(model, smoothing=np.float64(0.1)).smoothing.__class__ is float

    @pytest.mark.parametrize("workers", [0, -2])
    def test_too_few_workers(self, workers: int) -> None:
        with pytest.raises(ValueError, match=rf"^workers: expected 1 or more, got {workers}$"):
            trainer(workers=workers)


class TestThreads:
    def blas(self) -> list[int]:
        threadpoolctl = pytest.importorskip("threadpoolctl")
        return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]

    def test_blas_has_one_thread_during_a_step_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        threadpoolctl = pytest.importorskip("threadpoolctl")
        with threadpoolctl.threadpool_limits(3, user_api="blas"):
            before = self.blas()
            it = trainer(workers=2)
            calls = record(monkeypatch, extra=self.blas)
            it.step(SRC, TGT)
            assert self.blas() == before
            assert all(set(call["extra"]) <= {1} for call in calls)
            with pytest.raises(IndexError):
                it.step(SRC + 99, TGT)
            assert self.blas() == before

    def test_one_worker_leaves_blas_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        threadpoolctl = pytest.importorskip("threadpoolctl")
        with threadpoolctl.threadpool_limits(3, user_api="blas"):
            it = trainer(workers=1)
            calls = record(monkeypatch, extra=self.blas)
            it.step(SRC, TGT)
            assert calls[0]["extra"] == self.blas()

    def test_short_steps_take_one_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A step has 3 operations for each parameter and real token; below the limit threads wait for each other."""
        it = trainer(workers=2)
        calls = record(monkeypatch)
        operations = 3 * it.model.params.flat.size * int((SRC != 0).sum() + (TGT[:, 1:] != 0).sum())
        for worthwhile, shards in ((operations, 2), (operations + 1, 1)):
            monkeypatch.setattr(training, "MIN_OPERATIONS", worthwhile)
            calls.clear()
            it.step(SRC, TGT)
            assert len(calls) == shards

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_short_step_has_one_blas_thread(self, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The threads of BLAS wait for each other in every small product, for long beside a busy process."""
        threadpoolctl = pytest.importorskip("threadpoolctl")
        monkeypatch.setattr(training, "MIN_OPERATIONS", 1e9)
        with threadpoolctl.threadpool_limits(3, user_api="blas"):
            before, it = self.blas(), trainer(workers=workers)
            calls = record(monkeypatch, extra=self.blas)
            it.step(SRC, TGT)
            it.loss_and_gradients(SRC, TGT)
            assert [set(call["extra"]) for call in calls] == [{1}, {1}]
            assert self.blas() == before
            for entries, threads in ((6 * 8, before), (6 * 8 + 1, [1] * len(before))):
                monkeypatch.setattr(training, "LARGE_MATRIX", entries)
                it.step(SRC, TGT)
                assert calls[-1]["extra"] == threads

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_a_forked_process_takes_the_same_step(self) -> None:
        """The threads of a process do not exist in its children; a child that waits for them would hang."""
        it = trainer(workers=2)
        it.step(SRC, TGT)
        fork = multiprocessing.get_context("fork")
        results = fork.SimpleQueue()
        child = fork.Process(target=lambda: results.put((it.step(SRC, TGT), it.model.params.flat.tobytes())))
        child.start()
        child.join(20)
        hangs = child.is_alive()
        child.kill()
        assert not hangs
        assert results.get() == (it.step(SRC, TGT), it.model.params.flat.tobytes())

    def test_a_helper_gives_the_same_bits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a short step a second thread computes gradients of matrices, if the trainer may use two."""
        pytest.importorskip("threadpoolctl")
        monkeypatch.setattr(training, "MIN_OPERATIONS", 1e9)
        helpers, inner = [], training.write_gradients

        def outer(gradients: Any, blocks: Any, helper: Any) -> None:
            helpers.append(helper is not None)
            inner(gradients, blocks, helper)

        monkeypatch.setattr(training, "write_gradients", outer)
        one, two = (trainer(small_model(dtype=np.float32), workers=workers, clip=0.1) for workers in (1, 2))
        for _ in range(3):
            assert one.step(SRC, TGT) == two.step(SRC, TGT)
            assert snapshot(one) == snapshot(two)
        assert helpers == [False, True] * 3
        monkeypatch.setattr(training, "LARGE_MATRIX", 0)      # then BLAS has its threads
        two.step(SRC, TGT)
        monkeypatch.setattr(training, "can_limit_blas", lambda: False)
        monkeypatch.setattr(training, "LARGE_MATRIX", 1 << 20)
        two.step(SRC, TGT)
        assert helpers[6:] == [False, False]

    def test_one_worker_for_each_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("threadpoolctl")
        monkeypatch.setattr("npattn.training.trainer.cores", lambda: 5)
        assert trainer(workers=None).workers == 5
        assert trainer(workers=2).workers == 2

    def test_without_threadpoolctl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The default is one worker. More can be requested, and BLAS keeps its threads."""
        monkeypatch.setitem(sys.modules, "threadpoolctl", None)
        monkeypatch.setattr("npattn.training.trainer.cores", lambda: 5)
        assert trainer(workers=None).workers == 1
        two, one = trainer(workers=2), trainer(workers=1)
        assert two.workers == 2
        assert two.step(SRC, TGT) == pytest.approx(one.step(SRC, TGT), rel=1e-12)

    def test_without_threadpoolctl_support_for_this_blas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The default is one worker: BLAS threads in several workers would slow each other down."""
        openmp = SimpleNamespace(user_api="openmp")
        monkeypatch.setattr(blas_threads, "_controller", lambda: SimpleNamespace(lib_controllers=[openmp]))
        monkeypatch.setattr("npattn.training.trainer.cores", lambda: 5)
        assert trainer(workers=None).workers == 1
        assert math.isfinite(trainer(workers=2).step(SRC, TGT))


class TestSpeed:
    def test_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
        assert blas_threads.cores() == 3
        monkeypatch.delattr("os.sched_getaffinity")
        monkeypatch.setattr("os.cpu_count", lambda: 7)
        assert blas_threads.cores() == 7
        monkeypatch.setattr("os.cpu_count", lambda: None)
        assert blas_threads.cores() == 1

    def test_keep_and_return_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both call mallopt of the C library, and return whether it accepted every setting."""
        calls: list[Any] = []

        class Library:
            def mallopt(self, option: int, value: int) -> int:
                calls.append((option, value))
                return 1

            def malloc_trim(self, pad: int) -> int:
                calls.append("trim")
                return 1

        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(memory, "_libc", Library)
        assert npattn.keep_memory() is True
        assert calls == [(-3, 2**30), (-1, 2**31 - 1), (-2, 2**26), (-8, 1)]
        calls.clear()
        assert npattn.return_memory() is True
        assert calls == [(-3, 2**17), (-1, 2**17), (-2, 2**17), (-8, 0), "trim"]
        calls.clear()
        monkeypatch.setattr(Library, "mallopt", lambda self, option, value: int(option != -1))
        assert npattn.keep_memory() is npattn.return_memory() is False
        monkeypatch.setattr(memory, "_libc", object)
        assert npattn.keep_memory() is npattn.return_memory() is False
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(memory, "_libc", None)
        assert npattn.keep_memory() is npattn.return_memory() is False
        assert calls == []

    @pytest.mark.parametrize("wanted", [True, False])
    def test_keep_memory_is_an_option(self, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[str] = []
        monkeypatch.setattr(training, "keep_memory", lambda: calls.append("kept"))
        it = trainer(keep_memory=wanted)
        assert calls == []                                    # not before the first step
        it.step(SRC, TGT)
        assert calls == ["kept"] * wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": "1"}, "TypeError: clip: expected a number, got '1'"),
        ({"clip": 0.0}, "ValueError: clip: expected 0 < clip ≤ inf, got 0.0"),
        ({"smoothing": "0"}, "TypeError: smoothing: expected a number, got '0'"),
        ({"rng": "seed"}, "TypeError: rng: expected an integer, got 'seed'"),
        ({"rng": -1}, "ValueError: rng: expected 0 or more, got -1"),
        ({"keep_memory": 1}, "TypeError: keep_memory: expected True or False, got 1"),
        ({"model": None}, "TypeError: model: expected a Transformer or a LanguageModel, got NoneType"),
        ({"optimizer": {}}, "TypeError: optimizer: expected one of the class Adam, got dict"),
    ],
)
def test_wrong_arguments_are_refused_before_the_first_step(options: dict[str, Any], message: str) -> None:
    model = small_model()
    with pytest.raises((TypeError, ValueError)) as caught:
        Trainer(**{"model": model, "optimizer": Adam(model.params)} | options)
    assert f"{caught.type.__name__}: {caught.value}" == message


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_copy_takes_the_same_steps(workers: int, copied: Any) -> None:
    """The copy has its own model, optimiser and threads."""
    it = trainer(small_model(dropout=0.3), workers=workers, rng=3, clip=0.5)
    it.step(SRC, TGT)
    again, before = copied(it), snapshot(it)
    assert snapshot(again) == before
    losses = [again.step(SRC, TGT) for _ in range(2)]
    assert snapshot(it) == before
    assert [it.step(SRC, TGT) for _ in range(2)] == losses and snapshot(it) == snapshot(again)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (-5, "ValueError: steps: expected 0 or more, got -5"),
        ("x", "TypeError: steps: expected an integer, got 'x'"),
        (True, "TypeError: steps: expected an integer, got True"),
    ],
)
def test_steps_that_cannot_be_counted(steps: Any, message: str) -> None:
    it = trainer()
    it.steps = np.int64(3)
    with pytest.raises((TypeError, ValueError)) as caught:
        it.steps = steps
    assert f"{caught.type.__name__}: {caught.value}" == message
    assert it.steps == 3 and type(it.steps) is int


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "ValueError: state: expected what state_dict returns, got {}"),
        (None, "ValueError: state: expected what state_dict returns, got None"),
        ({"seed": 1, "steps": -1}, "ValueError: state: 'steps': expected 0 or more, got -1"),
        ({"seed": "1", "steps": 1}, "TypeError: state: 'seed': expected an integer, got '1'"),
    ],
)
def test_a_wrong_state_changes_nothing(state: Any, message: str) -> None:
    it = trainer(rng=np.int64(5))
    with pytest.raises((TypeError, ValueError)) as caught:
        it.load_state_dict(state)
    assert f"{caught.type.__name__}: {caught.value}" == message
    assert it.state_dict() == {"seed": 5, "steps": 0} and type(it.seed) is int


def test_a_step_does_not_change_gradients_returned_before() -> None:
    """Every step writes its gradients into the same buffer, which `loss_and_gradients` does not use."""
    it = trainer()
    _, grads = it.loss_and_gradients(SRC, TGT)
    before = {name: array.copy() for name, array in grads.items()}
    for _ in range(2):
        it.step(SRC, TGT)
    assert all(np.array_equal(grads[name], array) for name, array in before.items())
