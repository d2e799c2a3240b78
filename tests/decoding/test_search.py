"""Greedy and beam search equal slow searches that run the whole model from the start at every step."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Hypothesis, Transformer, beam_search, greedy_search
from npattn._internal.checks import Array
from npattn.decoding import beam, checks, ensemble, workers
from npattn.decoding.cached_decoder import CachedDecoder
from npattn.decoding.hypotheses import log_softmax, penalty
from npattn.decoding.workers import LEAST, in_workers
from support.slow_search import (
    BOS,
    EOS,
    assert_alike,
    eager_model,
    log_p_of_next,
    score,
    slow_beam,
    slow_greedy,
    slow_steps,
)
from support.transformer_toys import OPTIONS, SRC, toy_model

SEED = st.integers(0, 2**32)



class TestGreedy:
    @given(st.sampled_from(list(OPTIONS)), SEED, st.integers(0, 6))
    def test_takes_the_best_token_at_every_step(self, name: str, seed: int, max_len: int) -> None:
        model = toy_model(seed, **OPTIONS[name])
        assert greedy_search(model, SRC, max_len) == slow_greedy(model, SRC, max_len)

    @given(SEED)
    def test_ends_on_eos(self, seed: int) -> None:
        model = eager_model(seed, tgt_vocab=4)
        assert greedy_search(model, SRC, 9) == slow_greedy(model, SRC, 9)

    def test_the_eager_model_ends_at_many_lengths(self) -> None:
        """The other tests rely on it."""
        lengths = {len(ids) for seed in range(30) for ids in greedy_search(eager_model(seed), SRC, 9)}
        assert len(lengths) >= 5 and 0 in lengths and 9 in lengths

    def test_never_gives_pad_or_bos(self) -> None:
        model = toy_model(tie="none", norm="pre")
        model.params["decoder.norm.beta"] = np.arange(6) * 10.0
        model.params["output.W"][:, :2] = 9.0                 # the two highest logits, always
        found = [*greedy_search(model, SRC, 5), *(h.ids for hs in beam_search(model, SRC, 3, 5) for h in hs)]
        assert max(map(len, found)) > 0
        assert all(token > 2 for ids in found for token in ids)

    def test_returns_python_integers(self) -> None:
        found = greedy_search(toy_model(tie="none"), SRC, 3)
        assert {type(token) for ids in found for token in ids} == {int}

    @pytest.mark.parametrize("seed", range(5))
    def test_finished_rows_are_dropped(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        model, sizes = eager_model(seed), recorded(monkeypatch)
        found = greedy_search(model, SRC, 9)
        assert sizes == [n for t in range(9) if (n := sum(len(ids) >= t for ids in found))]

    def test_other_special_ids(self) -> None:
        model = toy_model(tie="none", norm="pre", pad_id=7, bos_id=8, eos_id=9)
        model.params["output.W"][:, [7, 8]] += 9.0
        model.params["decoder.norm.beta"] = np.ones(6) * 5
        found = greedy_search(model, SRC, 6)
        assert all(token not in (7, 8, 9) for ids in found for token in ids)
        model.params["output.W"][:, 9] += 99.0
        assert greedy_search(model, SRC, 6) == [[], [], [], []]


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list. From now on every step of a search appends the number of its rows."""
    sizes = []

    class Recorder(CachedDecoder):
        def step(self, ids: Array) -> Array:
            sizes.append(len(ids))
            assert len(ids) == len(self) * self.beam
            assert all(len(layer.KV) == len(layer.KV_M) == len(self) for layer in self.layers)
            return super().step(ids)

    monkeypatch.setattr(ensemble, "CachedDecoder", Recorder)
    return sizes


class TestBeam:
    @given(SEED, st.integers(1, 5), st.integers(0, 5), st.sampled_from([0.0, 0.6, 1.0, 3.0]))
    def test_equals_the_slow_search(self, seed: int, beam: int, max_len: int, alpha: float) -> None:
        model = eager_model(seed)
        found = beam_search(model, SRC, beam, max_len, alpha)
        assert len(found) == 4
        for row, hypotheses in zip(SRC, found, strict=True):
            assert_alike(hypotheses, slow_beam(model, row[None], beam, max_len, alpha))

    def test_goes_on_while_a_longer_target_can_score_higher(self) -> None:
        """With one beam and a high penalty, a longer target often scores higher than that of greedy search."""
        longer = 0
        for seed in range(8):
            model = eager_model(seed)
            greedy = greedy_search(model, SRC, 8)
            for row, ids, found in zip(SRC, greedy, beam_search(model, SRC, 1, 8, 3.0), strict=True):
                assert_alike(found, slow_beam(model, row[None], 1, 8, 3.0))
                longer += len(found[0].ids) > len(ids)
        assert longer >= 5

    @given(SEED, st.sampled_from([0.0, 0.6, 2.0]))
    def test_a_wide_beam_finds_every_sequence(self, seed: int, alpha: float) -> None:
        model, row = eager_model(seed), SRC[:1]
        sequences = [list(ids) for ids in itertools.product((3, 4), repeat=3)]
        totals = {}
        for ids, log_p in zip(sequences, log_p_of_next(model, row, sequences), strict=True):
            steps = log_p[np.arange(3), ids]                  # log P of the three tokens
            totals |= {tuple(ids[:n]): float(steps[:n].sum() + log_p[n, EOS]) for n in range(4)}
        every = [Hypothesis(list(ids), log_p, score(len(ids), log_p, alpha)) for ids, log_p in totals.items()]
        every.sort(key=lambda hypothesis: -hypothesis.score)
        assert len(every) == 15
        assert_alike(beam_search(model, row, 20, 3, alpha)[0], every)
        assert_alike(beam_search(model, row, 13, 3, alpha)[0][:1], every[:1])

    def test_of_tied_tokens_the_lowest_id_comes_first(self) -> None:
        """With 1,000 equal logits a selection takes any of them, such as 656 four times; greedy ends with <eos>."""
        model = toy_model(0, tgt_vocab=1000, tie="none")
        model.params["output.W"][...] = 0
        found = beam_search(model, SRC, 1, 4, length_penalty=0.0)
        assert [[hypothesis.ids for hypothesis in row] for row in found] == [[[]]] * len(SRC)
        assert greedy_search(model, SRC, 4) == [[]] * len(SRC)
        assert found[0][0].log_probability == pytest.approx(-np.log(1000))

    @given(SEED)
    def test_a_beam_of_one_is_greedy(self, seed: int) -> None:
        model = eager_model(seed)
        found = zip(greedy_search(model, SRC, 9), beam_search(model, SRC, 1, 9, length_penalty=0.0), strict=True)
        for ids, hypotheses in found:
            if len(ids) < 9:                                  # where <eos> was not forced
                assert [hypothesis.ids for hypothesis in hypotheses] == [ids]

    def test_score(self) -> None:
        for hypothesis in beam_search(eager_model(3), SRC, 5, 6, length_penalty=0.7)[0]:
            n = len(hypothesis.ids) + 1                       # with <eos>
            assert hypothesis.score == pytest.approx(hypothesis.log_probability / ((5 + n) / 6) ** 0.7, rel=1e-14)

    def test_defaults(self) -> None:
        model = eager_model(3)
        assert beam_search(model, SRC) == beam_search(model, SRC, beam=4, max_len=64, length_penalty=0.6)
        assert any(len(hypotheses) == 4 for hypotheses in beam_search(model, SRC))
        model.params["decoder.norm.beta"] = np.ones(6) * 9
        model.params["output.W"][:, EOS] = -9.0               # the least likely token: chosen only at the last position
        assert {len(hypothesis.ids) for hypotheses in beam_search(model, SRC) for hypothesis in hypotheses} == {64}

    def test_the_penalty_favours_long_targets(self) -> None:
        def total(alpha: float) -> int:
            found = [beam_search(eager_model(seed), SRC, 4, 8, alpha) for seed in range(20)]
            return sum(len(hypotheses[0].ids) for rows in found for hypotheses in rows)

        assert total(2.0) > total(0.0)

    @pytest.mark.parametrize("seed", range(3))
    def test_float32(self, seed: int) -> None:
        model = eager_model(seed, dtype=np.float32)
        for row, hypotheses in zip(SRC, beam_search(model, SRC, 3, 5), strict=True):
            assert_alike(hypotheses, slow_beam(model, row[None], 3, 5, 0.6), tolerance=1e-5)
            assert {type(hypothesis.log_probability) for hypothesis in hypotheses} == {float}
            assert {type(token) for hypothesis in hypotheses for token in hypothesis.ids} <= {int}

    def test_log_probabilities_of_float32_logits_are_float64(self) -> None:
        model = eager_model(0, dtype=np.float32)
        logits = CachedDecoder(model.params, SRC, model.config).step(np.full(4, BOS))
        expected = log_softmax(logits.astype(np.float64))[:, EOS]
        found = [hypotheses[0].log_probability for hypotheses in beam_search(model, SRC, 1, 0)]
        np.testing.assert_allclose(found, expected, rtol=1e-14)

    @given(SEED, st.integers(1, 4))
    def test_rows_are_independent(self, seed: int, beam: int) -> None:
        model = eager_model(seed)
        together = beam_search(model, SRC, beam, 6)
        for row, hypotheses in zip(SRC, together, strict=True):
            assert_alike(hypotheses, beam_search(model, row[None], beam, 6)[0])

    @pytest.mark.parametrize("alpha", [0.0, 0.6])
    def test_finished_sources_are_dropped(self, monkeypatch: pytest.MonkeyPatch, alpha: float) -> None:
        """A source is dropped as soon as the bound in the docstring of the module allows it, often early."""
        early = 0
        for seed in range(8):
            model = eager_model(seed)
            steps = [steps_until_finished(model, row[None], 2, 9, alpha) for row in SRC]
            sizes = recorded(monkeypatch)
            beam_search(model, SRC, 2, 9, alpha)
            assert sizes == [2 * n for t in range(10) if (n := sum(steps_ > t for steps_ in steps))]
            early += sum(steps_ < 10 for steps_ in steps)
        assert early >= 8

    def test_a_source_without_beginnings_is_dropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With <pad>, <bos> and <eos> alone there is one hypothesis, the empty target, even with two beams."""
        sizes = recorded(monkeypatch)
        for hypotheses in beam_search(eager_model(0, tgt_vocab=3), SRC, 2, 5):
            assert_alike(hypotheses, [Hypothesis([], hypotheses[0].log_probability, hypotheses[0].log_probability)])
        assert sizes == [8]

    @pytest.mark.parametrize("seed", range(3))
    def test_many_beams(self, seed: int) -> None:
        """There are so many that an unstable sort would change their order."""
        model = eager_model(seed, tgt_vocab=12)
        for row, hypotheses in zip(SRC, beam_search(model, SRC, 20, 3), strict=True):
            assert_alike(hypotheses, slow_beam(model, row[None], 20, 3, 0.6))


def steps_until_finished(model: Transformer, src: Array, beam: int, max_len: int, alpha: float) -> int:
    """Return the number of positions after which no beginning can still score above the last of `beam` ended ones."""
    for t, (best, ended) in enumerate(slow_steps(model, src, beam, max_len, alpha)):
        if len(ended) == beam and ended[-1].score >= best / penalty(max_len + 1, alpha):
            return t + 1
    return max_len + 1


class TestEdges:
    def test_no_tokens_allowed(self) -> None:
        model = eager_model(0)
        assert greedy_search(model, SRC, 0) == [[], [], [], []]
        for row, hypotheses in zip(SRC, beam_search(model, SRC, 3, 0), strict=True):
            log_p = float(log_p_of_next(model, row[None], [[]])[0, -1, EOS])
            assert_alike(hypotheses, [Hypothesis([], log_p, log_p)])

    def test_no_rows(self) -> None:
        assert greedy_search(eager_model(0), SRC[:0], 5) == []
        assert beam_search(eager_model(0), SRC[:0], 2, 5) == []

    def test_no_source_tokens(self) -> None:
        """An empty source equals a source of pads."""
        model = eager_model(0)
        assert greedy_search(model, SRC[:, :0], 5) == greedy_search(model, np.zeros((4, 5), int), 5)

    @pytest.mark.parametrize(
        ("src", "max_len", "error", "message"),
        [
            (SRC.tolist(), 5, TypeError, "src: expected an integer array, got list"),
            (SRC * 1.0, 5, TypeError, "src: expected an integer array, got float64"),
            (SRC[0], 5, ValueError, "src: expected ids (B, N), got (5,)"),
            (SRC + 1, 5, IndexError, "src: expected ids from 0 to 8, got 9"),
            (SRC, -1, ValueError, "max_len: expected 0 or more, got -1"),
        ],
    )
    def test_bad_input(self, src: Any, max_len: int, error: type[Exception], message: str) -> None:
        def searches() -> Iterator[Any]:
            yield lambda: greedy_search(eager_model(0), src, max_len)
            yield lambda: beam_search(eager_model(0), src, 2, max_len)

        for call in searches():
            with pytest.raises(error) as caught:
                call()
            assert str(caught.value) == message

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")   # inf − inf on the way
    def test_a_model_that_is_not_finite(self, value: float) -> None:
        model = eager_model(0)
        model.params["decoder.norm.gamma"][1] = value
        for call in (lambda: greedy_search(model, SRC, 3), lambda: beam_search(model, SRC, 2, 3)):
            with pytest.raises(FloatingPointError, match=r"^logits of position 0: expected finite numbers"):
                call()

    @pytest.mark.parametrize(("workers", "error"), [(0, ValueError), (-1, ValueError), (1.0, TypeError)])
    def test_bad_workers(self, workers: Any, error: type[Exception]) -> None:
        for call in (greedy_search, beam_search):
            with pytest.raises(error, match=r"^workers: expected "):
                call(eager_model(0), SRC, 3, workers=workers)

    def test_overflow_is_an_error(self) -> None:
        """Otherwise squares of ∞ would make the output of a layer norm 0, a finite number."""
        for name, where in [("encoder.norm.gamma", "source"), ("target_embedding.W_E", "logits of position 0")]:
            model = eager_model(0)
            model.params[name] *= 1e200
            model.params["encoder.0.feed_forward.W_2"] *= 1e200 if where == "source" else 1
            for call in (lambda: greedy_search(model, SRC, 3), lambda: beam_search(model, SRC, 2, 3)):  # noqa: B023
                with pytest.raises(FloatingPointError) as caught:
                    call()
                assert str(caught.value) == f"{where}: expected finite numbers, got an overflow encountered in vecdot"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": None}, "model: expected a Transformer, got NoneType"),
            ({"max_len": 2**60}, f"max_len: expected no more numbers than memory has room for, got {4 * (2**60 + 1)}"),
            ({"beam": 2**40}, f"beam: expected no more numbers than memory has room for, got {2**42 * (2**40 + 5)}"),
            ({"beam": 2.0}, "beam: expected an integer, got 2.0"),
            ({"length_penalty": 16}, "length_penalty: expected 0 ≤ length_penalty < 16, got 16"),
            ({"length_penalty": np.nan}, "length_penalty: expected 0 ≤ length_penalty < 16, got nan"),
        ],
    )
    def test_bad_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises((TypeError, ValueError)) as caught:
            beam_search(**{"model": eager_model(0), "src": SRC} | options)
        assert str(caught.value) == message
        if options.keys() <= {"model", "max_len"}:
            with pytest.raises((TypeError, ValueError)) as caught:
                greedy_search(**{"model": eager_model(0), "src": SRC, "max_len": 3} | options)
            assert str(caught.value) == message

    def test_the_room_that_is_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        checked: list[Any] = []
        for module in (beam, checks):
            monkeypatch.setattr(module, "check_room", lambda *args: checked.append(args))
        greedy_search(eager_model(0), SRC, 3)
        beam_search(eager_model(0), SRC, 2, 3)
        assert checked == [("max_len", 4 * 4), ("max_len", 4 * 4), ("beam", 4 * 2 * (2 + 5))]

    def test_numpy_scalars(self) -> None:
        model, three, two = eager_model(0), np.int64(3), np.uint8(2)
        assert greedy_search(model, SRC, three, workers=two) == greedy_search(model, SRC, 3)
        found = beam_search(model, SRC, two, three, np.float32(0.5))
        assert found == beam_search(model, SRC, 2, 3, 0.5)

    def test_no_model(self) -> None:
        for call in (greedy_search, beam_search):
            with pytest.raises(TypeError, match=r"^model: expected a Transformer, got list$"):
                call([], SRC, 3)  # type: ignore[operator]

    def test_bad_beams(self) -> None:
        with pytest.raises(ValueError, match=r"^beam: expected 1 or more, got 0$"):
            beam_search(eager_model(0), SRC, 0)
        with pytest.raises(ValueError, match=r"^length_penalty: expected 0 ≤ length_penalty < 16, got -0\.1$"):
            beam_search(eager_model(0), SRC, 2, length_penalty=-0.1)


class TestWorkers:
    @given(SEED, st.integers(1, 7), st.integers(1, 9))
    def test_rows_come_back_in_their_order(self, seed: int, workers: int, rows: int) -> None:
        model, src = eager_model(seed), np.random.default_rng(seed).integers(0, 9, (rows, 5))
        assert greedy_search(model, src, 6, workers=workers) == greedy_search(model, src, 6, workers=1)
        together, alone = (beam_search(model, src, 3, 6, workers=n) for n in (workers, 1))
        for found, expected in zip(together, alone, strict=True):
            assert_alike(found, expected)

    @pytest.mark.parametrize("search_", [greedy_search, beam_search])
    @pytest.mark.parametrize(("workers", "rows"), [(1, 4), (2, 4), (3, 4), (9, 4), (40, 40)])
    def test_every_worker_has_a_shard(
        self, monkeypatch: pytest.MonkeyPatch, search_: Any, workers: int, rows: int
    ) -> None:
        """All workers wait at their first step for each other, so they run at once, even if there are fewer cores."""
        barrier = threading.Barrier(min(workers, rows))

        class Waiting(CachedDecoder):
            def step(self, ids: Array) -> Array:
                if self.t == 0:
                    barrier.wait(timeout=20)
                return super().step(ids)

        monkeypatch.setattr(ensemble, "CachedDecoder", Waiting)
        search_(eager_model(0), np.resize(SRC, (rows, 5)), max_len=2, workers=workers)
        assert not barrier.broken

    def test_few_rows_take_one_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers, "cores", lambda: 2)
        monkeypatch.setattr(workers, "can_limit_blas", lambda: True)
        monkeypatch.setattr("npattn._internal.system.workers.one_blas_thread", contextlib.nullcontext)
        for n in (1, LEAST, 2 * LEAST - 1):
            assert len(set(in_workers(names_of_threads(1), np.zeros((n, 1)), None, 1))) == 1
        both = {"npattn_0", "npattn_1"}
        assert set(in_workers(names_of_threads(2), np.zeros((2 * LEAST, 1)), None, 1)) == both
        assert set(in_workers(names_of_threads(2), np.zeros((LEAST // 4, 1)), None, 8)) == both
        monkeypatch.setattr(workers, "can_limit_blas", lambda: False)
        own = {threading.current_thread().name}
        assert set(in_workers(names_of_threads(1), np.zeros((4 * LEAST, 1)), None, 1)) == own

    def test_beams_count_as_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers, "LEAST", 6)
        monkeypatch.setattr(workers, "cores", lambda: 2)
        monkeypatch.setattr(workers, "can_limit_blas", lambda: True)
        for k, shard in ((2, 8), (3, 6)):                     # 8 rows make one shard, 12 rows two
            sizes = recorded(monkeypatch)
            beam_search(eager_model(0), SRC, k, 0)
            assert set(sizes) == {shard}

    def test_errors_of_workers_are_raised(self) -> None:
        model = eager_model(0)
        model.params["output.W"][2, 3] = np.nan
        with pytest.raises(FloatingPointError, match=r"^logits of position 0: "):
            greedy_search(model, SRC, 3, workers=2)


def names_of_threads(n: int) -> Callable[[Array], list[str]]:
    """Return a search that gives the name of its thread. It waits until n threads have begun."""
    barrier = threading.Barrier(n)

    def search(src: Array) -> list[str]:
        barrier.wait(timeout=20)
        return [threading.current_thread().name] * len(src)

    return search
