"""An ensemble chooses by the mean of the probabilities of its models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Transformer, beam_search, greedy_search
from npattn._internal.checks import Array
from npattn.decoding.cached_decoder import CachedDecoder
from npattn.decoding.ensemble import EnsembleDecoder, decoder_of
from support.slow_search import BOS, assert_alike, eager_model, slow_beam, slow_greedy
from support.transformer_toys import SRC

SEED = st.integers(0, 2**32)


class Mean:
    """In place of a model of the slow searches: logits whose softmax is the mean of the models' probabilities."""

    def __init__(self, models: list[Transformer]) -> None:
        self.models = models

    def forward(self, src: Array, tgt: Array) -> tuple[Array, None]:
        p = [np.exp(z - np.logaddexp.reduce(z, -1, keepdims=True)) for z in self.logits(src, tgt)]
        return np.log(sum(p) / len(p)), None

    def logits(self, src: Array, tgt: Array) -> list[Array]:
        return [model.forward(src, tgt)[0].astype(np.float64) for model in self.models]


def some(seed: int, dtype: Any = np.float64) -> list[Transformer]:
    """Return models of the same ids and of other sizes, so different that each has its own favourites."""
    forms: list[dict[str, Any]] = [{}, {"norm": "post", "tie": "output"}, {"n_decoder_layers": 2, "n_heads": 1}]
    return [eager_model(seed + i, dtype=dtype, **form) for i, form in enumerate(forms)]


class TestSearches:
    @given(SEED, st.integers(0, 6))
    def test_greedy(self, seed: int, max_len: int) -> None:
        models = some(seed)
        expected = slow_greedy(Mean(models), SRC, max_len)
        assert greedy_search(models[0], SRC, max_len, ensemble=models[1:]) == expected

    @given(SEED, st.integers(1, 4), st.integers(0, 6))
    def test_beam(self, seed: int, beam: int, max_len: int) -> None:
        models = some(seed)
        found = beam_search(models[0], SRC, beam, max_len, ensemble=models[1:], workers=2)
        for row, hypotheses in zip(SRC, found, strict=True):
            assert_alike(hypotheses, slow_beam(Mean(models), row[None], beam, max_len, 0.6))

    def test_it_is_no_single_model_and_no_vote_of_logits(self) -> None:
        """Otherwise the tests above could not tell them apart."""
        ids = [[BOS]] * len(SRC)
        differences = []
        for seed in range(5):
            mean = Mean(some(seed))
            of_logits = sum(mean.logits(SRC, np.array(ids))).argmax(-1)
            each = [z.argmax(-1) for z in mean.logits(SRC, np.array(ids))]
            best = mean.forward(SRC, np.array(ids))[0].argmax(-1)
            differences.append([(best != other).any() for other in (of_logits, *each)])
        assert np.any(differences, axis=0).all()

    @pytest.mark.parametrize("search", [greedy_search, beam_search])
    def test_copies_of_a_model_are_that_model(self, search: Callable[..., Any]) -> None:
        model = eager_model(3)
        alone, together = search(model, SRC, 6), search(model, SRC, 6, ensemble=(model, model))
        if search is greedy_search:
            assert together == alone
        else:
            for found, expected in zip(together, alone, strict=True):
                assert_alike(found, expected)

    @pytest.mark.parametrize("search", [greedy_search, beam_search])
    def test_single_precision(self, search: Callable[..., Any]) -> None:
        models = some(1, np.float32)
        assert len(search(models[0], SRC, 5, ensemble=models[1:])) == len(SRC)
        log_p = EnsembleDecoder(models, SRC).step(np.full(len(SRC), BOS))
        wanted, _ = Mean(models).forward(SRC, np.full((len(SRC), 1), BOS))
        assert log_p.dtype == np.float64
        np.testing.assert_allclose(log_p, wanted[:, -1], rtol=1e-5)

    @pytest.mark.parametrize("scale", [1e3, 1e30])
    def test_confident_models(self, scale: float) -> None:
        """Where one model gives p = 0 in float64, and where both do."""
        models = [eager_model(seed) for seed in (0, 1)]
        for model, token in zip(models, (3, 4), strict=True):
            model.params["decoder.norm.gamma"][:], model.params["decoder.norm.beta"][:] = 0, 1
            model.params["output.W"][:] = 0
            model.params["output.W"][:, token] = scale
        with np.errstate(all="raise"):
            log_p = EnsembleDecoder(models, SRC).step(np.full(len(SRC), BOS))
            found = beam_search(models[0], SRC, 2, 1, 0.0, ensemble=models[1:])
        assert np.allclose(log_p[:, [3, 4]], np.log(0.5), rtol=1e-12) and (log_p[:, :3] < -scale).all()
        assert [h.ids for h in found[0]] == [[3], [4]]


def test_a_single_model_has_a_decoder_of_its_own() -> None:
    assert isinstance(decoder_of(some(0)[:1], SRC), CachedDecoder)
    assert isinstance(decoder_of(some(0)[:2], SRC), EnsembleDecoder)


class TestArguments:
    @pytest.mark.parametrize(("ensemble", "message"), [
        (eager_model(0), "ensemble: expected a sequence of Transformers, got Transformer"),
        (None, "ensemble: expected a sequence of Transformers, got NoneType"),
        ([eager_model(0), "g2p"], "ensemble[1]: expected a Transformer, got str"),
        ([eager_model(0, 6)], "ensemble[0]: expected tgt_vocab=5 as in the model, got 6"),
        ([eager_model(0, src_vocab=8)], "ensemble[0]: expected src_vocab=9 as in the model, got 8"),
        ([eager_model(0, eos_id=3)], "ensemble[0]: expected eos_id=2 as in the model, got 3"),
        ([eager_model(0, bos_id=3)], "ensemble[0]: expected bos_id=1 as in the model, got 3"),
        ([eager_model(0, pad_id=3)], "ensemble[0]: expected pad_id=0 as in the model, got 3"),
    ])  # fmt: skip
    def test_wrong_ensembles(self, ensemble: Any, message: str) -> None:
        for search in (greedy_search, beam_search):
            with pytest.raises((TypeError, ValueError)) as caught:
                search(eager_model(0), SRC, max_len=3, ensemble=ensemble)
            assert str(caught.value) == message

    def test_the_smallest_limit_of_positions_counts(self) -> None:
        learned = {"positions": "learned", "position_offset": 0}
        short, long = (eager_model(0, max_length=n, **learned) for n in (5, 9))
        for model, other in ((short, long), (long, short)):
            assert len(greedy_search(model, SRC, 5, ensemble=[other])) == len(SRC)
            with pytest.raises(ValueError, match=r"^max_len: expected at most 5 with max_length=5, got 6$"):
                greedy_search(model, SRC, 6, ensemble=[other])
