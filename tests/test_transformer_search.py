"""Greedy and beam search against the whole model, run from the start at every step, and against every sequence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Hypothesis, Transformer, beam_search, greedy_search
from npattn._types import Array
from npattn.transformer import search
from npattn.transformer.incremental import advance, start
from npattn.transformer.search import log_softmax, top
from transformer_toys import OPTIONS, SRC, toy_model

every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
SEED = st.integers(0, 2**32)
PAD, BOS, EOS = 0, 1, 2


def talker(seed: int, tgt_vocab: int = 5, dtype: Any = np.float64, **options: Any) -> Transformer:
    """A model with few symbols, so that <eos> comes at all lengths."""
    sizes = {"tgt_vocab": tgt_vocab, "n_encoder_layers": 1, "n_decoder_layers": 1}
    return toy_model(seed, dtype, **sizes | {"tie": "none", "norm": "pre"} | options)


def log_p_of_next(model: Transformer, src: Array, beginnings: list[list[int]]) -> Array:
    """log P (beginnings, N, V) of every next token, from the whole model without caches; src is one row."""
    tgt = np.array([[BOS, *ids] for ids in beginnings])
    z = model.forward(np.repeat(src, len(tgt), axis=0), tgt)[0].astype(np.float64)
    z -= z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def slow_greedy(model: Transformer, src: Array, max_len: int) -> list[list[int]]:
    """Append the best token to every row, run the whole model again; cut at <eos> in the end."""
    tgt = np.full((len(src), 1), BOS)
    for _ in range(max_len):
        logits = model.forward(src, tgt)[0][:, -1]
        logits[:, [PAD, BOS]] = -np.inf
        tgt = np.column_stack([tgt, logits.argmax(-1)])
    return [list(itertools.takewhile(lambda token: token != EOS, row)) for row in tgt[:, 1:].tolist()]


def score(n: int, log_p: float, alpha: float) -> float:
    return log_p / ((5 + n + 1) / 6) ** alpha


def slow_beam(model: Transformer, src: Array, beam: int, max_len: int, alpha: float) -> list[Hypothesis]:
    """Beam search as it is described, on lists, without caches and without stopping early."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended = []
    for t in range(max_len + 1):
        extensions = []
        table = log_p_of_next(model, src, [ids for _, ids in live])[:, -1]
        for (total, ids), log_p in zip(live, table, strict=True):
            allowed = [EOS] if t == max_len else range(EOS, len(log_p))
            extensions += [(total + log_p[v], [*ids, v]) for v in allowed]
        extensions.sort(key=lambda extension: -extension[0])
        ended += [(total, ids[:-1]) for total, ids in extensions[:beam] if ids[-1] == EOS]
        live = [(total, ids) for total, ids in extensions if ids[-1] != EOS][:beam]
    hypotheses = [Hypothesis(ids, total, score(len(ids), total, alpha)) for total, ids in ended]
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)[:beam]


def assert_alike(found: list[Hypothesis], expected: list[Hypothesis], tolerance: float = 1e-10) -> None:
    assert [hypothesis.ids for hypothesis in found] == [hypothesis.ids for hypothesis in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=tolerance)
        assert one.score == pytest.approx(other.score, abs=tolerance)


class TestCaches:
    @every_option
    def test_token_by_token_equals_forward(self, options: dict[str, Any]) -> None:
        model = toy_model(**options | {"dropout": 0.0})
        tgt = np.random.default_rng(0).integers(3, 11, (4, 6))
        tgt[:, 0] = BOS
        logits, _ = model.forward(SRC, tgt)
        state = start(model.params, SRC, model.config, 6)
        for t in range(6):
            np.testing.assert_allclose(advance(state, tgt[:, t], t), logits[:, t], rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @every_option
    def test_dtype(self, options: dict[str, Any], dtype: Any) -> None:
        model = toy_model(dtype=dtype, **options)
        state = start(model.params, SRC, model.config, 2)
        assert advance(state, np.full(4, BOS), 0).dtype == dtype
        assert {buffer.dtype for layer in state.layers for buffer in layer} == {np.dtype(dtype)}

    def test_selected_rows_go_on_alone(self) -> None:
        """Rows may be repeated or left out, and a selection does not share buffers with its origin."""
        model = toy_model()
        rows = np.array([3, 0, 0])
        whole, apart = (start(model.params, SRC, model.config, 3) for _ in range(2))
        for state in (whole, apart):
            advance(state, np.full(4, BOS), 0)
        chosen = whole.select(rows)
        advance(chosen, np.array([7, 8, 9]), 1)
        for ids, t in (([5, 4, 3, 7], 1), ([6, 6, 6, 6], 2)):
            expected = advance(apart, np.array(ids), t)
            np.testing.assert_array_equal(advance(whole, np.array(ids), t), expected)
        np.testing.assert_allclose(advance(chosen, np.array([6, 6, 6]), 2)[0], expected[3], rtol=1e-12)

    def test_copies_of_a_row(self) -> None:
        model = toy_model()
        one, three = (start(model.params, SRC, model.config, 1, copies) for copies in (1, 3))
        logits = advance(one, np.full(4, BOS), 0)
        repeated = advance(three, np.full(12, BOS), 0)
        np.testing.assert_allclose(repeated, np.repeat(logits, 3, axis=0), rtol=1e-12, atol=1e-13)

    def test_parameters_are_not_written_to(self) -> None:
        model = toy_model()
        model.params.flat.setflags(write=False)
        for view in model.params.values():
            view.setflags(write=False)
        beam_search(model, SRC, beam=3, max_len=4)


class TestGreedy:
    @given(st.sampled_from(list(OPTIONS)), SEED, st.integers(0, 6))
    def test_takes_the_best_token_at_every_step(self, name: str, seed: int, max_len: int) -> None:
        model = toy_model(seed, **OPTIONS[name])
        assert greedy_search(model, SRC, max_len) == slow_greedy(model, SRC, max_len)

    @given(SEED)
    def test_ends_on_eos(self, seed: int) -> None:
        model = talker(seed, tgt_vocab=4)
        assert greedy_search(model, SRC, 9) == slow_greedy(model, SRC, 9)

    def test_the_talker_ends_at_many_lengths(self) -> None:
        """What the tests above and below rely on."""
        lengths = {len(ids) for seed in range(30) for ids in greedy_search(talker(seed), SRC, 9)}
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
    def test_finished_rows_leave(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        model, batches = talker(seed), Recorder()
        monkeypatch.setattr(search, "advance", batches)
        found = greedy_search(model, SRC, 9)
        assert batches.sizes == [n for t in range(9) if (n := sum(len(ids) >= t for ids in found))]

    def test_other_special_ids(self) -> None:
        model = toy_model(tie="none", norm="pre", pad_id=7, bos_id=8, eos_id=9)
        model.params["output.W"][:, [7, 8]] += 9.0
        model.params["decoder.norm.beta"] = np.ones(6) * 5
        found = greedy_search(model, SRC, 6)
        assert all(token not in (7, 8, 9) for ids in found for token in ids)
        model.params["output.W"][:, 9] += 99.0
        assert greedy_search(model, SRC, 6) == [[], [], [], []]


class Recorder:
    """`advance` that notes the rows of each call."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, state: Any, ids: Array, t: int) -> Array:
        self.sizes.append(len(ids))
        assert all(len(buffer) == len(ids) for layer in state.layers for buffer in layer)
        return advance(state, ids, t)


class TestBeam:
    @given(SEED, st.integers(1, 5), st.integers(0, 5), st.sampled_from([0.0, 0.6, 1.0, 3.0]))
    def test_is_the_search_that_is_described(self, seed: int, beam: int, max_len: int, alpha: float) -> None:
        model = talker(seed)
        found = beam_search(model, SRC, beam, max_len, alpha)
        assert len(found) == 4
        for row, hypotheses in zip(SRC, found, strict=True):
            assert_alike(hypotheses, slow_beam(model, row[None], beam, max_len, alpha))

    def test_does_not_stop_while_a_longer_target_may_overtake(self) -> None:
        """With one beam and a high penalty: greedy search ends early, and going on is often better."""
        overtaken = 0
        for seed in range(8):
            model = talker(seed)
            greedy = greedy_search(model, SRC, 8)
            for row, ids, found in zip(SRC, greedy, beam_search(model, SRC, 1, 8, 3.0), strict=True):
                assert_alike(found, slow_beam(model, row[None], 1, 8, 3.0))
                overtaken += len(found[0].ids) > len(ids)
        assert overtaken >= 5

    @given(SEED, st.sampled_from([0.0, 0.6, 2.0]))
    def test_a_wide_beam_finds_every_sequence(self, seed: int, alpha: float) -> None:
        model, row = talker(seed), SRC[:1]
        sequences = [list(ids) for ids in itertools.product((3, 4), repeat=3)]
        totals = {}
        for ids, log_p in zip(sequences, log_p_of_next(model, row, sequences), strict=True):
            steps = log_p[np.arange(3), ids]                  # the three tokens' own
            totals |= {tuple(ids[:n]): float(steps[:n].sum() + log_p[n, EOS]) for n in range(4)}
        every = [Hypothesis(list(ids), log_p, score(len(ids), log_p, alpha)) for ids, log_p in totals.items()]
        every.sort(key=lambda hypothesis: -hypothesis.score)
        assert len(every) == 15
        assert_alike(beam_search(model, row, 20, 3, alpha)[0], every)
        assert_alike(beam_search(model, row, 13, 3, alpha)[0][:1], every[:1])

    @given(SEED)
    def test_a_beam_of_one_is_greedy(self, seed: int) -> None:
        model = talker(seed)
        found = zip(greedy_search(model, SRC, 9), beam_search(model, SRC, 1, 9, length_penalty=0.0), strict=True)
        for ids, hypotheses in found:
            if len(ids) < 9:                                  # where <eos> was not forced
                assert [hypothesis.ids for hypothesis in hypotheses] == [ids]

    def test_score(self) -> None:
        for hypothesis in beam_search(talker(3), SRC, 5, 6, length_penalty=0.7)[0]:
            n = len(hypothesis.ids) + 1                       # with <eos>
            assert hypothesis.score == pytest.approx(hypothesis.log_probability / ((5 + n) / 6) ** 0.7, rel=1e-14)

    def test_defaults(self) -> None:
        model = talker(3)
        assert beam_search(model, SRC) == beam_search(model, SRC, beam=4, max_len=64, length_penalty=0.6)
        assert any(len(hypotheses) == 4 for hypotheses in beam_search(model, SRC))

    def test_the_penalty_favours_long_targets(self) -> None:
        def total(alpha: float) -> int:
            found = [beam_search(talker(seed), SRC, 4, 8, alpha) for seed in range(20)]
            return sum(len(hypotheses[0].ids) for rows in found for hypotheses in rows)

        assert total(2.0) > total(0.0)

    @pytest.mark.parametrize("seed", range(3))
    def test_float32(self, seed: int) -> None:
        model = talker(seed, dtype=np.float32)
        for row, hypotheses in zip(SRC, beam_search(model, SRC, 3, 5), strict=True):
            assert_alike(hypotheses, slow_beam(model, row[None], 3, 5, 0.6), tolerance=1e-5)
            assert {type(hypothesis.log_probability) for hypothesis in hypotheses} == {float}
            assert {type(token) for hypothesis in hypotheses for token in hypothesis.ids} <= {int}

    def test_log_probabilities_of_float32_logits_are_float64(self) -> None:
        model = talker(0, dtype=np.float32)
        logits = advance(start(model.params, SRC, model.config, 1), np.full(4, BOS), 0)
        expected = log_softmax(logits.astype(np.float64))[:, EOS]
        found = [hypotheses[0].log_probability for hypotheses in beam_search(model, SRC, 1, 0)]
        np.testing.assert_allclose(found, expected, rtol=1e-14)

    @given(SEED, st.integers(1, 4))
    def test_rows_do_not_know_each_other(self, seed: int, beam: int) -> None:
        model = talker(seed)
        together = beam_search(model, SRC, beam, 6)
        for row, hypotheses in zip(SRC, together, strict=True):
            assert_alike(hypotheses, beam_search(model, row[None], beam, 6)[0])

    @pytest.mark.parametrize("alpha", [0.0, 0.6])
    def test_finished_sources_leave(self, monkeypatch: pytest.MonkeyPatch, alpha: float) -> None:
        """The batch shrinks exactly as the sources by themselves would stop, most of them early."""
        early = 0
        for seed in range(8):
            model, steps = talker(seed), []
            for row in SRC:
                monkeypatch.setattr(search, "advance", recorder := Recorder())
                beam_search(model, row[None], 2, 9, alpha)
                steps.append(len(recorder.sizes))
            monkeypatch.setattr(search, "advance", recorder := Recorder())
            beam_search(model, SRC, 2, 9, alpha)
            assert recorder.sizes == [2 * n for t in range(10) if (n := sum(steps_ > t for steps_ in steps))]
            early += sum(steps_ < 10 for steps_ in steps)
        assert early >= 8


class TestEdges:
    def test_no_tokens_allowed(self) -> None:
        model = talker(0)
        assert greedy_search(model, SRC, 0) == [[], [], [], []]
        for row, hypotheses in zip(SRC, beam_search(model, SRC, 3, 0), strict=True):
            log_p = float(log_p_of_next(model, row[None], [[]])[0, -1, EOS])
            assert_alike(hypotheses, [Hypothesis([], log_p, log_p)])

    def test_no_rows(self) -> None:
        assert greedy_search(talker(0), SRC[:0], 5) == []
        assert beam_search(talker(0), SRC[:0], 2, 5) == []

    def test_no_source_tokens(self) -> None:
        """An empty source is like one of pads."""
        model = talker(0)
        assert greedy_search(model, SRC[:, :0], 5) == greedy_search(model, np.zeros((4, 5), int), 5)

    @pytest.mark.parametrize(
        ("src", "max_len", "error", "message"),
        [
            (SRC.tolist(), 5, TypeError, "src: expected an integer array, got list"),
            (SRC * 1.0, 5, TypeError, "src: expected an integer array, got float64"),
            (SRC[0], 5, ValueError, "src: expected ids (B, N_S), got (5,)"),
            (SRC + 1, 5, IndexError, "src: expected ids from 0 to 8, got 9"),
            (SRC, -1, ValueError, "max_len: expected 0 or more, got -1"),
        ],
    )
    def test_bad_input(self, src: Any, max_len: int, error: type[Exception], message: str) -> None:
        def searches() -> Iterator[Any]:
            yield lambda: greedy_search(talker(0), src, max_len)
            yield lambda: beam_search(talker(0), src, 2, max_len)

        for call in searches():
            with pytest.raises(error) as caught:
                call()
            assert str(caught.value) == message

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")   # inf − inf on the way
    def test_a_model_that_is_not_finite(self, value: float) -> None:
        model = talker(0)
        model.params["decoder.norm.gamma"][1] = value
        for call in (lambda: greedy_search(model, SRC, 3), lambda: beam_search(model, SRC, 2, 3)):
            with pytest.raises(FloatingPointError, match=r"^logits of position 0: expected finite numbers"):
                call()

    def test_bad_beams(self) -> None:
        with pytest.raises(ValueError, match=r"^beam: expected 1 or more, got 0$"):
            beam_search(talker(0), SRC, 0)
        with pytest.raises(ValueError, match=r"^length_penalty: expected 0 or more, got -0\.1$"):
            beam_search(talker(0), SRC, 2, length_penalty=-0.1)


class TestHelpers:
    @given(SEED, st.integers(1, 40), st.integers(1, 45))
    def test_top(self, seed: int, n: int, k: int) -> None:
        rng = np.random.default_rng(seed)
        values = rng.permuted(np.tile(np.arange(n, dtype=float), (3, 1)), axis=1)
        values[values < n // 3] = -np.inf
        found = top(values, k)
        np.testing.assert_array_equal(np.take_along_axis(values, found, 1), -np.sort(-values, axis=1)[:, :k])
        assert all(len(set(row)) == min(k, n) for row in found.tolist())

    def test_top_puts_equals_in_order(self) -> None:
        assert top(np.array([[1.0, 3.0, 1.0, 3.0, 3.0, 1.0]]), 6).tolist() == [[1, 3, 4, 0, 2, 5]]

    def test_log_softmax(self) -> None:
        np.testing.assert_allclose(np.exp(log_softmax(np.log([[1.0, 2.0, 5.0]]))), [[0.125, 0.25, 0.625]], rtol=1e-15)
        with np.errstate(under="ignore"):
            np.testing.assert_array_equal(log_softmax(np.array([[1e4, 0.0, -1e300]])), [[0.0, -1e4, -1e300]])
