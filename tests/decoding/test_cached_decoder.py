"""The decoder token by token gives the logits of the whole model, also after rows were dropped or beams reordered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Transformer, beam_search
from npattn._internal.checks import Array
from npattn.decoding.cached_decoder import ROOM, CachedDecoder
from support.transformer_toys import OPTIONS, SRC, toy_model

every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
SEED = st.integers(0, 2**32)
BOS = 1
TOLERANCE: dict[Any, float] = {np.float32: 1e-5, np.float64: 1e-12}


def decoder(model: Transformer, src: Array = SRC, beam: int = 1) -> CachedDecoder:
    return CachedDecoder(model.params, src, model.config, beam)


def targets(rows: int, n: int, seed: int = 0) -> Array:
    tgt = np.random.default_rng(seed).integers(3, 11, (rows, n))
    tgt[:, 0] = BOS
    return tgt


def log_p(logits: Array) -> Array:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def assert_logits(found: Array, expected: Array, dtype: Any = np.float64) -> None:
    """Equal to rounding, relative to the largest logit."""
    assert found.dtype == dtype
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(log_p(found), log_p(expected), rtol=0, atol=TOLERANCE[dtype] * scale)


class TestSteps:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @every_option
    def test_equal_forward(self, options: dict[str, Any], dtype: Any) -> None:
        model, tgt = toy_model(dtype=dtype, **options), targets(4, 6)
        logits, state = model.forward(SRC, tgt)[0], decoder(model)
        for t in range(6):
            assert_logits(state.step(tgt[:, t]), logits[:, t], dtype)
        buffers = [buffer for layer in state.layers for buffer in (layer.KV, layer.KV_M)]
        assert {buffer.dtype for buffer in (*buffers, state.pads, state.pasts)} == {np.dtype(dtype)}

    @given(st.sampled_from(list(OPTIONS)), SEED, st.integers(1, 6), st.integers(1, 7))
    def test_equal_forward_for_any_source(self, name: str, seed: int, rows: int, N_S: int) -> None:
        model, tgt = toy_model(seed, **OPTIONS[name]), targets(rows, 3, seed)
        src = np.random.default_rng(seed).integers(0, 9, (rows, N_S))   # pads anywhere
        logits, state = model.forward(src, tgt)[0], decoder(model, src)
        for t in range(3):
            assert_logits(state.step(tgt[:, t]), logits[:, t])

    def test_the_mask_that_is_added_to_scores(self) -> None:
        """It is 0 or −∞. A source of pads alone is not masked; its values are 0."""
        seen = (SRC != 0) | (np.arange(4) == 2)[:, None]
        np.testing.assert_array_equal(decoder(toy_model()).pads[:, 0, 0], np.where(seen, 0, -np.inf))

    @pytest.mark.parametrize("beam", [1, 3])
    def test_caches_grow(self, beam: int) -> None:
        model, tgt = toy_model(), targets(4, 2 * ROOM + 2)
        logits, state = model.forward(SRC, tgt)[0], decoder(model, beam=beam)
        rooms = []
        for t in range(2 * ROOM + 2):
            assert_logits(state.step(np.repeat(tgt[:, t], beam))[::beam], logits[:, t])
            rooms.append(state.layers[0].KV.shape[-2])
        assert [rooms.count(n * ROOM * beam) for n in (1, 2, 4)] == [ROOM, ROOM, 2]   # each is used until it is full

    def test_a_step_writes_one_position_in_place(self) -> None:
        state = decoder(toy_model())
        state.step(np.full(4, BOS))
        before = [(layer.KV, layer.KV.copy()) for layer in state.layers]
        state.step(np.full(4, 5))
        for layer, (buffer, copy) in zip(state.layers, before, strict=True):
            assert layer.KV is buffer
            np.testing.assert_array_equal(np.delete(buffer, 1, axis=-2), np.delete(copy, 1, axis=-2))

    def test_scores_far_apart(self) -> None:
        """exp underflows to weights of 0, without a warning or an error."""
        model, tgt = toy_model(), targets(4, 5)
        model.params["decoder.0.self_attention.W_Q"] *= 3e4
        model.params["encoder.0.self_attention.W_Q"] *= 3e4
        logits = model.forward(SRC, tgt)[0]
        with np.errstate(all="raise"):
            state = decoder(model)
            found = [state.step(tgt[:, t]) for t in range(5)]
        np.testing.assert_allclose(np.stack(found, 1), logits, atol=1e-8)

    def test_parameters_are_not_written_to(self) -> None:
        model = toy_model()
        model.params.flat.setflags(write=False)
        for view in model.params.values():
            view.setflags(write=False)
        before = model.params.flat.copy()
        beam_search(model, SRC, beam=3, max_len=4)
        np.testing.assert_array_equal(model.params.flat, before)


class TestKeep:
    @given(SEED, st.sampled_from(["paper", "pre", "many"]), st.integers(1, 3), st.integers(2, 7))
    def test_kept_groups_go_on_unchanged(self, seed: int, name: str, beam: int, rows: int) -> None:
        """After every step up to two groups are dropped, and at least one is kept."""
        rng = np.random.default_rng(seed)
        model, src = toy_model(seed, **OPTIONS[name]), rng.integers(0, 9, (rows, 5))
        tgt = targets(rows * beam, 5, seed).reshape(rows, beam, 5)
        whole, state, kept = decoder(model, src, beam), decoder(model, src, beam), np.arange(rows)
        for t in range(5):
            expected = whole.step(tgt[:, :, t].reshape(-1)).reshape(rows, beam, -1)
            assert_logits(state.step(tgt[kept, :, t].reshape(-1)).reshape(len(kept), beam, -1), expected[kept])
            groups = np.sort(rng.permutation(len(kept))[: max(len(kept) - rng.integers(3), 1)])
            order = state.keep(groups)
            assert sorted(kept[order]) == sorted(kept[groups])
            kept = kept[order]
            assert len(state) == len(kept)

    def test_groups_move_only_to_free_places(self) -> None:
        state = decoder(toy_model(), np.tile(SRC, (2, 1)))
        state.step(np.full(8, BOS))
        assert state.keep(np.array([0, 2, 3, 5, 6, 7])).tolist() == [0, 6, 2, 3, 7, 5]
        assert state.keep(np.arange(6)).tolist() == [0, 1, 2, 3, 4, 5]
        assert state.keep(np.arange(0)).tolist() == []


class TestBeams:
    @given(SEED, st.sampled_from(list(OPTIONS)), st.integers(1, 4), st.integers(1, 3))
    def test_reordered_beams_attend_to_their_own_pasts(self, seed: int, name: str, beam: int, rows: int) -> None:
        rng = np.random.default_rng(seed)
        model, src = toy_model(seed, **OPTIONS[name]), rng.integers(0, 9, (rows, 5))
        state, tgt = decoder(model, src, beam), np.full((rows, beam, 1), BOS)
        for _ in range(5):
            logits = model.forward(np.repeat(src, beam, axis=0), tgt.reshape(rows * beam, -1))[0][:, -1]
            assert_logits(state.step(tgt[:, :, -1].reshape(-1)), logits)
            parents = rng.integers(0, beam, (rows, beam))
            state.reorder(parents)
            tgt = np.take_along_axis(tgt, parents[:, :, None], 1)
            tgt = np.concatenate([tgt, rng.integers(3, 11, (rows, beam, 1))], axis=2)

    def test_no_key_is_moved(self) -> None:
        state = decoder(toy_model(), beam=3)
        state.step(np.arange(12) % 11)
        before = [layer.KV.copy() for layer in state.layers]
        pasts = state.pasts.copy()
        state.reorder(np.tile([0, 1, 2], (4, 1)))
        np.testing.assert_array_equal(state.pasts[..., :3], pasts[..., :3])
        state.reorder(np.tile([2, 0, 0], (4, 1)))
        np.testing.assert_array_equal(state.pasts[0, 0, :, :3] == 0, np.eye(3, dtype=bool)[[2, 0, 0]])
        for layer, copy in zip(state.layers, before, strict=True):
            np.testing.assert_array_equal(layer.KV[..., :3, :], copy[..., :3, :])
