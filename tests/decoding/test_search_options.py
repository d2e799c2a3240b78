"""The options that make the searches those of Hugging Face's `generate`, against a slow search on lists."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Transformer, beam_search, greedy_search
from npattn._internal.checks import Array
from npattn.decoding import beam as module
from npattn.decoding.beam import Rules, can_improve, only_eos
from npattn.decoding.cached_decoder import CachedDecoder
from npattn.decoding.forbidden import Forbidden
from support.transformer_toys import SRC, VARIANTS, toy_config, toy_model

NO = -math.inf
PAD, BOS, EOS = 0, 1, 2
#: A pad in a target would be hidden from the slow search, which runs the whole model. The word <eos> forbids nothing.
WORDS = [[PAD], [EOS], [5, 6], [BOS, 4], [7, 5, 3]]


def log_p_of_next(model: Transformer, src: Array, ids: list[int], options: dict[str, Any]) -> list[float]:
    """Return log P of every next token, after what the options forbid and force."""
    tgt = [model.config.bos_id, *ids]
    z = model.forward(src[None], np.array([tgt]))[0][0, -1]
    scores = list(z - np.logaddexp.reduce(z))
    words = options.get("bad_words_ids")
    words = [[model.config.pad_id], [model.config.bos_id]] if words is None else words
    for *prefix, last in words:
        if tgt[len(tgt) - len(prefix) :] == prefix and [last] != [model.config.eos_id]:
            scores[last] = NO
    first = options.get("forced_bos_id")
    if first is not None and not ids:
        scores = [0.0 if token == first else NO for token in range(len(scores))]
    return scores


def slow_beam(model: Transformer, src: Array, k: int, max_len: int, alpha: float, **options: Any) -> list[Any]:
    """Return (ids, log P, score) of up to k hypotheses of one source, the best first."""
    normalise = {"gnmt": lambda n: ((5 + n) / 6) ** alpha, "power": lambda n: n**alpha}[options["normalisation"]]
    ending, eos = options["ending"], model.config.eos_id
    most = max_len if ending == "open" else max_len + 1
    running, ended = [(0.0, [])], []
    for n in range(1, most + 1):                              # tokens, with <eos>
        candidates = []
        for total, ids in running:
            scores = log_p_of_next(model, src, ids, options)
            if n == most and ending != "open":
                own = 0.0 if ending == "forced" else scores[eos]
                scores = [own if token == eos else NO for token in range(len(scores))]
            candidates += [(total + s, [*ids, token]) for token, s in enumerate(scores) if s > NO]
        candidates = sorted(candidates, key=lambda each: -each[0])[: 2 * k]
        new = [(p, ids) for p, ids in candidates[:k] if ids[-1] == eos or (n == most and ending == "open")]
        ended += [([i for i in ids if i != eos], p, p / normalise(n)) for p, ids in new]
        ended = sorted(ended, key=lambda each: -each[2])[:k]
        running = [(p, ids) for p, ids in candidates if ids[-1] != eos][:k]
        if not running or (len(ended) == k and options["early_stopping"] is True):
            break
        reach = normalise(most if options["early_stopping"] == "never" else n)
        if len(ended) == k and running[0][0] / reach <= ended[-1][2]:
            break
    return ended


def pairs(ids: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(ids))


def eager(seed: int, name: str = "paper", **options: Any) -> Transformer:
    sizes = {"n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.0}
    return toy_model(seed, **VARIANTS.get(name, {"tie": "none", "norm": "pre"}) | sizes | options)


def compare(model: Transformer, k: int, max_len: int, alpha: float, **options: Any) -> None:
    """Assert that both searches find the same hypotheses, with the same numbers."""
    found = beam_search(model, SRC[:2], k, max_len, alpha, **options)
    for src, ours in zip(SRC, found, strict=False):
        theirs = slow_beam(model, src, k, max_len, alpha, **options)
        assert [each.ids for each in ours] == [ids for ids, _, _ in theirs]
        np.testing.assert_allclose([each[1:] for each in ours], [each[1:] for each in theirs], atol=1e-12)


class TestBeam:
    @given(
        st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 5), st.sampled_from(["gnmt", "power"]),
        st.sampled_from(["never", False, True]), st.sampled_from(["scored", "forced", "open"]),
        st.sampled_from([None, [[PAD]], WORDS]), st.sampled_from([None, 7]), st.sampled_from(["paper", *VARIANTS]),
    )  # fmt: skip
    def test_equals_a_slow_search(
        self, seed: int, k: int, max_len: int, normalisation: Any, early: Any, ending: Any, words: Any, first: Any,
        name: str,
    ) -> None:  # fmt: skip
        compare(
            eager(seed, name), k, max_len, [0.0, 0.6, 1.0, 2.0][seed % 4], normalisation=normalisation,
            early_stopping=early, ending=ending, bad_words_ids=words, forced_bos_id=first,
        )  # fmt: skip

    @pytest.mark.parametrize("ending", ["scored", "forced", "open"])
    @pytest.mark.parametrize("early", ["never", False, True])
    def test_equals_a_slow_search_where_some_targets_end(self, early: Any, ending: Any) -> None:
        for seed in range(4):
            options = {"normalisation": "power", "early_stopping": early, "ending": ending, "forced_bos_id": None}
            compare(eager(seed, tgt_vocab=5), 3, 3, 1.0, bad_words_ids=[[PAD], [BOS, 4], [4, 4]], **options)

    def test_the_options_reach_every_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Any] = []
        monkeypatch.setattr(module, "_beam", lambda _, rows, *rest: seen.append((len(rows), *rest)) or [[]] * 2)
        options: dict[str, Any] = {"normalisation": "power", "early_stopping": np.True_, "ending": "open"}
        beam_search(eager(0), SRC, 3, 9, 0.5, **options, bad_words_ids=[[4]], forced_bos_id=5, workers=2)
        assert seen == [(2, 3, Rules(9, 0.5, "power", True, "open", [[4]], 5))] * 2
        assert seen[0][2].early_stopping is True

    def test_defaults(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Any] = []
        monkeypatch.setattr(module, "_beam", lambda _, rows, *rest: seen.append(rest) or [[]] * len(rows))
        beam_search(eager(0), SRC)
        assert seen == [(4, Rules(64, 0.6))] and Rules(64, 0.6) == Rules(64, 0.6, "gnmt", "never", "scored", None, None)


class TestGreedy:
    @given(st.integers(0, 2**32), st.integers(0, 5), st.sampled_from([None, WORDS]), st.sampled_from([None, 7]))
    def test_equals_a_slow_search(self, seed: int, max_len: int, words: Any, first: Any) -> None:
        model, options = eager(seed), {"bad_words_ids": words, "forced_bos_id": first}
        wanted = []
        for src in SRC:
            ids: list[int] = []
            while len(ids) < max_len and ids[-1:] != [EOS]:
                ids.append(int(np.argmax(log_p_of_next(model, src, ids, options))))
            wanted.append(ids[:-1] if ids[-1:] == [EOS] else ids)
        assert greedy_search(model, SRC, max_len, **options) == wanted
        assert greedy_search(model, SRC, max_len, **options, workers=3) == wanted

    def test_words_stay_with_their_source_when_others_end(self) -> None:
        model, src = eager(3), np.random.default_rng(0).integers(3, 9, (12, 5))
        words = [[PAD], [BOS], *([i, j] for i in range(3, 11) for j in range(3, 11) if (i + j) % 3)]
        found = greedy_search(model, src, 8, bad_words_ids=words)
        assert found == [greedy_search(model, row[None], 8, bad_words_ids=words)[0] for row in src]
        assert len({len(ids) for ids in found}) > 2 and not any((a + b) % 3 for ids in found for a, b in pairs(ids))
        beams = beam_search(model, src, 2, 8, bad_words_ids=words)
        alone = [beam_search(model, row[None], 2, 8, bad_words_ids=words)[0] for row in src]
        assert [[each.ids for each in row] for row in beams] == [[each.ids for each in row] for row in alone]
        assert len({len(each.ids) for row in beams for each in row}) > 2


class TestParts:
    def test_forbidden(self) -> None:
        config = toy_config(tgt_vocab=8)
        forbidden = Forbidden(WORDS, None, config, (1, 2))
        assert forbidden.apply(np.zeros((2, 8))).tolist() == [[NO, 0, 0, 0, NO, 0, 0, 0]] * 2     # <bos> 4
        forbidden.follow(np.array([[0, 0]]), np.array([[5, 7]]))
        assert forbidden.apply(np.zeros((2, 8))).tolist() == [[NO, 0, 0, 0, 0, 0, NO, 0], [NO, *[0] * 7]]
        forbidden.follow(np.array([[1, 0]]), np.array([[5, 6]]))                                  # 7 5 and 5 6
        scores = np.zeros((2, 8))
        assert forbidden.apply(scores) is scores
        assert scores.tolist() == [[NO, 0, 0, NO, 0, 0, NO, 0], [NO, *[0] * 7]]

    def test_what_is_before_the_start_token_is_no_id(self) -> None:
        forbidden = Forbidden([[BOS, BOS, 4], [BOS, BOS, BOS, 5]], None, toy_config(tgt_vocab=8), (1, 1))
        assert forbidden.apply(np.zeros((1, 8))).tolist() == [[0.0] * 8]
        assert forbidden.ids.dtype == int
        forbidden.follow(np.zeros((1, 1), int), np.array([[BOS]]))
        assert forbidden.apply(np.zeros((1, 8))).tolist() == [[0, 0, 0, 0, NO, 0, 0, 0]]

    def test_kept_sources(self) -> None:
        forbidden = Forbidden([[4, 5]], None, toy_config(tgt_vocab=8), (3, 1))
        forbidden.follow(np.zeros((3, 1), int), np.array([[4], [3], [4]]))
        forbidden.keep(np.array([1, 0]))
        assert np.isneginf(forbidden.apply(np.zeros((2, 8)))).nonzero()[0].tolist() == [1]

    def test_without_words_pad_and_bos_are_forbidden(self) -> None:
        config = toy_config(tgt_vocab=6, pad_id=3, bos_id=0, eos_id=4)
        assert Forbidden(None, None, config, (1, 1)).apply(np.zeros((1, 6))).tolist() == [[NO, 0, 0, NO, 0, 0]]
        config = toy_config(tgt_vocab=6, pad_id=3, bos_id=4, eos_id=4)                            # as in BART
        assert Forbidden(None, None, config, (1, 1)).apply(np.zeros((1, 6))).tolist() == [[0, 0, 0, NO, 0, 0]]

    def test_a_given_first_id(self) -> None:
        forbidden = Forbidden([[4]], 4, toy_config(tgt_vocab=6), (1, 1))                          # it wins over words
        assert forbidden.apply(np.full((1, 6), -3.0)).tolist() == [[NO, NO, NO, NO, 0, NO]]
        forbidden.follow(np.zeros((1, 1), int), np.array([[4]]))
        assert forbidden.apply(np.full((1, 6), -3.0)).tolist() == [[-3, -3, -3, -3, NO, -3]]

    def test_only_eos(self) -> None:
        for is_forced, own in ((False, [-1.0, -4.0]), (True, [0.0, 0.0])):
            extensions = -np.arange(6.0).reshape(2, 3)
            only_eos(extensions, 1, is_forced)
            assert extensions.tolist() == [[NO, own[0], NO], [NO, own[1], NO]]

    def test_the_length_of_the_beginnings_at_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[int] = []
        monkeypatch.setattr(module, "can_improve", lambda worst, log_p, n, rules: seen.append(n) or worst < np.inf)
        beam_search(eager(0), SRC[:1], 2, 3)
        assert seen == [1, 2, 3, 4]

    def test_no_layer_in_the_encoder(self) -> None:
        model = eager(1, norm="post", final_norm=False, n_encoder_layers=0)
        assert not any(name.startswith("encoder") for name in model.params)
        compare(model, 2, 3, 0.6, normalisation="gnmt", early_stopping="never", ending="scored")

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_positions_have_the_dtype_of_the_model(self, dtype: Any) -> None:
        model = Transformer(toy_config(), rng=0, dtype=dtype)
        decoder = CachedDecoder(model.params, SRC, model.config)
        decoder.step(np.full(len(SRC), BOS))
        assert decoder.positions.dtype == dtype

    def test_can_improve(self) -> None:
        worst, log_p = np.array([NO, -1.0, -1.5, -2.0]), np.array([-9.0, -6.0, -6.0, -6.0])
        for n, rules, expected in (
            (4, Rules(5, 1.0, "power", True), [True, False, False, False]),
            (4, Rules(5, 1.0, "power", False), [True, False, False, True]),
            (4, Rules(5, 1.0, "power"), [True, False, True, True]),
            (4, Rules(4, 1.0, "power", "never", "open"), [True, False, False, True]),
            (1, Rules(4, 1.0, "power", "never", "open"), [True, False, False, True]),
        ):
            assert can_improve(worst, log_p, n, rules).tolist() == expected

    def test_the_last_position(self) -> None:
        assert [Rules(5, 0.0, ending=ending).last for ending in ("scored", "forced", "open")] == [5, 5, 4]

    def test_penalties(self) -> None:
        assert Rules(5, 2.0).penalty(7) == 4.0 and Rules(5, 2.0, "power").penalty(7) == 49.0


class TestErrors:
    @pytest.mark.parametrize(("options", "kind", "message"), [
        ({"bad_words_ids": "45"}, TypeError, "bad_words_ids: expected a sequence of sequences of ids, got '45'"),
        ({"bad_words_ids": 4}, TypeError, "bad_words_ids: expected a sequence of sequences of ids, got 4"),
        ({"bad_words_ids": [4]}, TypeError, "bad_words_ids: expected sequences of ids, got 4"),
        ({"bad_words_ids": ["4"]}, TypeError, "bad_words_ids: expected sequences of ids, got '4'"),
        ({"bad_words_ids": [[4], []]}, ValueError, "bad_words_ids: expected sequences of ids, got an empty one"),
        ({"bad_words_ids": [[4, 11]]}, IndexError, "bad_words_ids: expected ids below 11, got 11"),
        ({"bad_words_ids": [[-1]]}, ValueError, "bad_words_ids: expected 0 or more, got -1"),
        ({"bad_words_ids": [[4.0]]}, TypeError, "bad_words_ids: expected an integer, got 4.0"),
        ({"forced_bos_id": 11}, IndexError, "forced_bos_id: expected ids below 11, got 11"),
        ({"forced_bos_id": True}, TypeError, "forced_bos_id: expected an integer, got True"),
    ])  # fmt: skip
    def test_of_both(self, options: dict[str, Any], kind: type[Exception], message: str) -> None:
        for search in (greedy_search, beam_search):
            with pytest.raises(kind) as caught:
                search(eager(0), SRC, max_len=3, **options)
            assert str(caught.value) == message

    @pytest.mark.parametrize(("options", "kind", "message"), [
        ({"normalisation": "mean"}, ValueError, "normalisation: expected one of gnmt, power, got 'mean'"),
        ({"ending": "cut"}, ValueError, "ending: expected one of scored, forced, open, got 'cut'"),
        ({"early_stopping": "always"}, TypeError, "early_stopping: expected True or False, got 'always'"),
        ({"ending": "open", "max_len": 0}, ValueError, "max_len: expected 1 or more, got 0"),
    ])  # fmt: skip
    def test_of_beam_search(self, options: dict[str, Any], kind: type[Exception], message: str) -> None:
        with pytest.raises(kind) as caught:
            beam_search(eager(0), SRC, **options)
        assert str(caught.value) == message

    def test_more_positions_than_there_are(self) -> None:
        model = eager(0, "bart", max_length=6)
        for ending, most in (("scored", 5), ("open", 6)):
            beam_search(model, SRC, max_len=most, ending=ending)
            with pytest.raises(ValueError) as caught:
                beam_search(model, SRC, max_len=most + 1, ending=ending)
            assert str(caught.value) == f"max_len: expected at most {most} with max_length=6, got {most + 1}"
        greedy_search(model, np.tile(SRC, (1, 2))[:, :6], 6)
        with pytest.raises(ValueError, match=r"^max_len: expected at most 6 with max_length=6, got 7$"):
            greedy_search(model, SRC, 7)
        with pytest.raises(ValueError, match=r"^src: expected at most max_length=6 in a row, got \(1, 7\)$"):
            greedy_search(model, np.full((1, 7), 4), 6)
