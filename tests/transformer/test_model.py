"""The Transformer equals its formulas, does not depend on pads or later tokens, and is pure; and its files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import CheckpointError, Transformer, TransformerConfig
from npattn._internal.checks import Array
from npattn._internal.files import load_arrays, save_arrays
from npattn.transformer.fast import transformer as fast
from support.transformer_toys import (
    OPTIONS,
    PAPER,
    SRC,
    TGT,
    LoopTransformer,
    deviation,
    toy_config,
    toy_model,
    toy_params,
)

every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
OPTION = st.sampled_from(list(OPTIONS))
SEED = st.integers(0, 2**32)


def without_dropout(name: str) -> TransformerConfig:
    return toy_config(**OPTIONS[name] | {"dropout": 0.0})


def draw_ids(rng: np.random.Generator, vocab: int, *shape: int) -> Array:
    return rng.integers(3, vocab, shape)


class TestForward:
    @given(st.sampled_from(PAPER), SEED, st.integers(1, 6), st.integers(1, 6))
    def test_is_the_transformer_of_the_paper(self, name: str, seed: int, N_S: int, N_T: int) -> None:
        config, rng = without_dropout(name), np.random.default_rng(seed)
        params = toy_params(config, seed)
        src, tgt = draw_ids(rng, config.src_vocab, 2, N_S), draw_ids(rng, 11, 2, N_T)
        logits, _ = fast.forward(params, src, tgt, config)
        for b in range(2):
            expected = LoopTransformer(params, config).logits(src[b].tolist(), tgt[b].tolist())
            np.testing.assert_allclose(logits[b], expected, rtol=1e-12, atol=1e-12)

    @given(OPTION, SEED)
    def test_a_padded_batch_equals_its_members(self, name: str, seed: int) -> None:
        config, rng = without_dropout(name), np.random.default_rng(seed)
        params = toy_params(config, seed)
        src, tgt = draw_ids(rng, config.src_vocab, 4, 6), draw_ids(rng, 11, 4, 5)
        lengths = rng.integers(1, 7, 4), rng.integers(1, 6, 4)
        for ids, sizes in zip((src, tgt), lengths, strict=True):
            ids[np.arange(ids.shape[1]) >= sizes[:, None]] = 0
        dlogits = rng.normal(size=(4, 5, 11)) * (tgt != 0)[..., None]
        logits, cache = fast.forward(params, src, tgt, config)
        grads = fast.backward(dlogits, cache)
        total = {n: np.zeros_like(array) for n, array in params.items()}
        for b, (n_s, n_t) in enumerate(zip(*lengths, strict=True)):
            alone, cache = fast.forward(params, src[b : b + 1, :n_s], tgt[b : b + 1, :n_t], config)
            np.testing.assert_allclose(logits[b, :n_t], alone[0], rtol=1e-12, atol=1e-12)
            for n, gradient in fast.backward(dlogits[b : b + 1, :n_t], cache).items():
                total[n] += gradient
        assert deviation(grads, total) < 1e-12

    @given(OPTION, SEED)
    def test_the_embedding_of_the_pad_changes_nothing(self, name: str, seed: int) -> None:
        config = without_dropout(name) if OPTIONS[name].get("tie") == "none" else toy_config(tie="none")
        params = toy_params(config, seed)
        before, _ = fast.forward(params, SRC, TGT, config)
        for table in ("source_embedding.W_E", "target_embedding.W_E"):
            params[table][0] = np.random.default_rng(seed).normal(size=config.d_model, scale=1e3)
        after, _ = fast.forward(params, SRC, TGT, config)
        np.testing.assert_array_equal(before[TGT != 0], after[TGT != 0])

    def test_more_pads_change_nothing(self) -> None:
        model = toy_model()
        tgt = np.pad(TGT, ((0, 0), (0, 1)))
        tgt[0, 3], tgt[2, 3] = 2, 2
        loss, grads = model.loss_and_gradients(SRC, tgt)
        wide, wide_grads = model.loss_and_gradients(np.pad(SRC, ((0, 0), (0, 3))), np.pad(tgt, ((0, 0), (0, 2))))
        assert wide == pytest.approx(loss, rel=1e-13)
        assert deviation(wide_grads, grads) < 1e-12

    @given(OPTION, SEED)
    def test_no_position_depends_on_a_later_one(self, name: str, seed: int) -> None:
        config, rng = without_dropout(name), np.random.default_rng(seed)
        params = toy_params(config, seed)
        src, tgt = draw_ids(rng, config.src_vocab, 3, 4), draw_ids(rng, 11, 3, 6)
        i = int(rng.integers(0, 5))
        other = tgt.copy()
        other[:, i + 1 :] = draw_ids(rng, 11, 3, 5 - i)
        other[:, i + 1] = np.where(other[:, i + 1] == tgt[:, i + 1], 3 + (tgt[:, i + 1] - 2) % 8, other[:, i + 1])
        logits, _ = fast.forward(params, src, tgt, config)
        changed, _ = fast.forward(params, src, other, config)
        np.testing.assert_array_equal(logits[:, : i + 1], changed[:, : i + 1])
        assert (logits[:, i + 1] != changed[:, i + 1]).any(-1).all()

    @given(OPTION, SEED)
    def test_order_of_the_batch(self, name: str, seed: int) -> None:
        config = without_dropout(name)
        params, order = toy_params(config, seed), np.random.default_rng(seed).permutation(4)
        logits, _ = fast.forward(params, SRC, TGT, config)
        permuted, _ = fast.forward(params, SRC[order], TGT[order], config)
        np.testing.assert_allclose(permuted, logits[order], rtol=1e-12, atol=1e-12)

    def test_other_ids_for_the_special_tokens(self) -> None:
        """The pad is the id `pad_id`, not 0."""
        usual, unusual = toy_config(tie="none"), toy_config(tie="none", pad_id=8, bos_id=3, eos_id=4)
        params = toy_params(usual)
        moved = dict(params)
        for table in ("source_embedding.W_E", "target_embedding.W_E"):
            moved[table] = params[table].copy()
            moved[table][[0, 8]] = params[table][[8, 0]]
        swap = np.arange(11)
        swap[[0, 8]] = 8, 0
        logits, _ = fast.forward(params, SRC, TGT, usual)
        same, _ = fast.forward(moved, swap[SRC], swap[TGT], unusual)
        np.testing.assert_array_equal(logits, same)

    @pytest.mark.parametrize(("B", "N_S", "N_T"), [(0, 5, 3), (4, 0, 3), (4, 5, 0), (0, 0, 0)])
    @pytest.mark.parametrize("norm", ["post", "pre"])
    def test_empty_axes(self, B: int, N_S: int, N_T: int, norm: Any) -> None:
        model = toy_model(norm=norm)
        logits, cache = model.forward(np.full((B, N_S), 4), np.full((B, N_T), 5))
        assert logits.shape == (B, N_T, 11)
        grads = model.backward(np.ones_like(logits), cache)
        assert np.isfinite(grads.flat).all()
        assert grads.flat.any() == (B * N_T > 0)

    def test_no_real_token_gives_loss_0(self) -> None:
        loss, grads = toy_model().loss_and_gradients(SRC[:1], np.array([[1, 0, 0]]))
        assert loss == 0.0
        assert not grads.flat.any()


class TestDropout:
    def test_needs_a_generator(self) -> None:
        with_dropout, without = toy_model(dropout=0.5), toy_model()
        np.testing.assert_array_equal(with_dropout.forward(SRC, TGT)[0], without.forward(SRC, TGT)[0])
        dropped, _ = with_dropout.forward(SRC, TGT, np.random.default_rng(0))
        assert (dropped != without.forward(SRC, TGT)[0]).all()

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        model = toy_model(dropout=0.5)
        tgt = np.pad(TGT, ((0, 0), (0, 1)))
        runs = [model.loss_and_gradients(SRC, tgt, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
        assert runs[0][0] == runs[1][0] != runs[2][0]
        np.testing.assert_array_equal(runs[0][1].flat, runs[1][1].flat)

    def test_every_place_has_a_mask_of_its_own(self) -> None:
        """There is dropout after both embeddings and in every sub-layer, each with new random numbers."""
        _, cache = toy_model(dropout=0.5).forward(SRC, TGT, np.random.default_rng(0))
        masks = [cache.source.dropout.M, cache.target.dropout.M]
        for layer in (*cache.encoder.layers, *cache.decoder.layers):
            masks += [sub_layer.dropout.M for sub_layer in layer]
        assert len(masks) == 2 + 2 * 2 + 2 * 3
        assert all(set(np.unique(mask)) == {0.0, 2.0} for mask in masks)
        by_shape: dict[Any, list[bytes]] = {}
        for mask in masks:
            by_shape.setdefault(mask.shape, []).append(mask.tobytes())
        real = int((SRC != 0).sum())                           # pads of the source have no rows
        assert {shape: len(set(each)) for shape, each in by_shape.items()} == {(real, 6): 5, (TGT.size, 6): 7}


class TestAttentionWeights:
    @every_option
    def test_names_shapes_and_sums(self, options: dict[str, Any]) -> None:
        model = toy_model(**options)
        config = model.config
        _, cache = model.forward(SRC, TGT, np.random.default_rng(0))
        weights = cache.attention_weights()
        shapes = {f"encoder.{i}.self_attention": (5, 5) for i in range(config.n_encoder_layers)}
        shapes |= {f"decoder.{i}.self_attention": (3, 3) for i in range(config.n_decoder_layers)}
        shapes |= {f"decoder.{i}.cross_attention": (3, 5) for i in range(config.n_decoder_layers)}
        assert {name: A.shape for name, A in weights.items()} == {
            name: (4, config.n_heads, *shape) for name, shape in shapes.items()
        }
        for name, A in weights.items():
            ids = TGT if name.startswith("decoder") and "self" in name else SRC
            real = (ids != 0)[:, None, None, :]
            assert not A[~np.broadcast_to(real, A.shape)].any()
            sums = A.sum(-1)
            attends = np.broadcast_to(real.any(-1), sums.shape)
            np.testing.assert_allclose(sums[attends], 1, rtol=1e-14)
            assert not sums[~attends].any()

    def test_the_decoder_attends_to_earlier_tokens_alone(self) -> None:
        _, cache = toy_model().forward(SRC, TGT)
        for i in range(2):
            A = cache.attention_weights()[f"decoder.{i}.self_attention"]
            assert not np.triu(A, 1).any()
            assert A[2][..., 2, :].all()

    def test_the_order_is_that_of_the_layers(self) -> None:
        _, cache = toy_model(n_encoder_layers=1).forward(SRC, TGT)
        assert list(cache.attention_weights()) == [
            "encoder.0.self_attention", "decoder.0.self_attention", "decoder.0.cross_attention",
            "decoder.1.self_attention", "decoder.1.cross_attention",
        ]  # fmt: skip


class TestPurity:
    @every_option
    def test_nothing_is_written_to(self, options: dict[str, Any]) -> None:
        """Arguments may be read-only, and a cache gives the same gradients twice."""
        config = toy_config(**options)
        params = toy_params(config)
        src, tgt, dlogits = SRC.copy(), TGT.copy(), np.random.default_rng(0).normal(size=(4, 3, 11))
        for array in (src, tgt, dlogits, *params.values()):
            array.setflags(write=False)
        logits, cache = fast.forward(params, src, tgt, config, np.random.default_rng(0))
        logits[...] = np.nan                                  # the caller may overwrite them
        first = fast.backward(dlogits, cache)
        saved = {name: gradient.copy() for name, gradient in first.items()}
        for gradient in first.values():
            gradient[...] = np.nan                            # and these too
        second = fast.backward(dlogits, cache)
        assert all(np.array_equal(second[name], saved[name]) for name in saved)

    def test_two_pending_caches(self) -> None:
        model = toy_model(dropout=0.2)
        dlogits = np.random.default_rng(0).normal(size=(4, 3, 11))

        def forward(i: int) -> Any:
            return model.forward(SRC[i:], TGT[i:], np.random.default_rng(i))[1]

        one_by_one = [model.backward(dlogits[i:], forward(i)).flat for i in (0, 2)]
        caches = [forward(i) for i in (0, 2)]
        for i in (1, 0):
            np.testing.assert_array_equal(model.backward(dlogits[2 * i :], caches[i]).flat, one_by_one[i])

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @every_option
    def test_dtype_in_is_dtype_out(self, options: dict[str, Any], dtype: Any) -> None:
        model = toy_model(dtype=dtype, **options)
        logits, cache = model.forward(SRC, TGT, np.random.default_rng(0))
        grads = fast.backward(np.ones_like(logits), cache)
        arrays = [logits, *grads.values(), *cache.attention_weights().values(), *floats(cache)]
        assert {array.dtype for array in arrays} == {np.dtype(dtype)}
        assert model.loss_and_gradients(SRC, TGT)[1].flat.dtype == dtype

    @every_option
    def test_float32_is_float64_to_its_precision(self, options: dict[str, Any]) -> None:
        double = toy_model(**options | {"dropout": 0.0})
        single = Transformer(double.config, dtype=np.float32)
        single.params.flat[:] = double.params.flat
        (loss, grads), (loss_32, grads_32) = (each.loss_and_gradients(SRC, TGT) for each in (double, single))
        assert loss_32 == pytest.approx(loss, rel=1e-5)
        assert deviation(grads_32, grads) < 1e-4

    def test_plain_dicts_give_the_same_logits(self) -> None:
        model = toy_model()
        logits, _ = fast.forward(dict(model.params), SRC, TGT, model.config)
        np.testing.assert_array_equal(logits, model.forward(SRC, TGT)[0])

    @pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int32, np.int64])
    def test_every_kind_of_integer(self, kind: Any) -> None:
        model = toy_model()
        np.testing.assert_array_equal(
            model.forward(SRC.astype(kind), TGT.astype(kind))[0], model.forward(SRC, TGT)[0]
        )


def floats(thing: Any) -> list[Array]:
    """Return all floating arrays in a cache."""
    if isinstance(thing, np.ndarray):
        return [thing] if thing.dtype.kind == "f" else []
    return [array for part in thing for array in floats(part)] if isinstance(thing, tuple) else []


class TestErrors:
    @pytest.mark.parametrize(
        ("src", "tgt", "error", "message"),
        [
            (SRC.tolist(), TGT, TypeError, "src: expected an integer array, got list"),
            (SRC, TGT * 1.0, TypeError, "tgt: expected an integer array, got float64"),
            (SRC != 0, TGT, TypeError, "src: expected an integer array, got bool"),
            (SRC + 1, TGT, IndexError, "src: expected ids from 0 to 8, got 9"),
            (SRC, TGT - 1, IndexError, "tgt: expected ids from 0 to 10, got -1"),
            (SRC[0], TGT, ValueError, "src: expected ids (B, N), got (5,)"),
            (SRC, TGT[:, :, None], ValueError, "tgt: expected ids (B, N), got (4, 3, 1)"),
            (SRC, TGT[:3], ValueError, "tgt: expected (B=4, N_T), got (3, 3)"),
        ],
    )
    def test_ids(self, src: Any, tgt: Any, error: type[Exception], message: str) -> None:
        model = toy_model()
        for call in (model.forward, model.loss_and_gradients):
            with pytest.raises(error) as caught:
                call(src, tgt)
            assert str(caught.value) == message

    def test_a_target_of_one_column(self) -> None:
        with pytest.raises(ValueError) as caught:
            toy_model().loss_and_gradients(SRC, TGT[:, :1])
        assert str(caught.value) == "tgt: expected ids (B, N_T) from <bos> to <eos>, at least two, got (4, 1)"

    @pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex128])
    def test_dtype(self, dtype: Any) -> None:
        with pytest.raises(TypeError, match=f"^dtype: expected float32 or float64, got {np.dtype(dtype)}$"):
            Transformer(toy_config(), dtype=dtype)


class TestInitialParameters:
    config = TransformerConfig(301, 307, 64, 4, 96, 1, 1, tie="none")

    def test_distributions(self) -> None:
        model = Transformer(self.config, rng=3)
        assert model.params.flat.dtype == np.float32
        for name, array in model.params.items():
            kind = name.rpartition(".")[2]
            if kind == "gamma":
                assert (array == 1).all()
            elif kind == "W_E":
                assert array.std() * math.sqrt(64) == pytest.approx(1, abs=0.03)
                assert abs(array.mean()) < 0.003
                assert np.abs(array).max() * math.sqrt(64) > 3    # normal, not uniform
            elif array.ndim == 2:
                limit = math.sqrt(6 / sum(array.shape))
                assert 0.98 * limit < np.abs(array).max() <= limit
                assert array.std() == pytest.approx(limit / math.sqrt(3), rel=0.05)
            else:
                assert not array.any()

    def test_matrices_are_fresh_draws(self) -> None:
        matrices = [array for array in Transformer(self.config).params.values() if array.shape == (64, 64)]
        assert len({array.tobytes() for array in matrices}) == len(matrices) == 12

    def test_seeds(self) -> None:
        first, same, other = (Transformer(toy_config(), rng=seed).params.flat for seed in (5, 5, 6))
        np.testing.assert_array_equal(first, same)
        assert (first != other).any()
        generator = np.random.default_rng(5)
        np.testing.assert_array_equal(Transformer(toy_config(), rng=generator).params.flat, first)
        default, zero = Transformer(toy_config()), Transformer(toy_config(), rng=0)
        np.testing.assert_array_equal(default.params.flat, zero.params.flat)

    def test_repr(self) -> None:
        assert repr(toy_model()).startswith(f"<Transformer of {toy_model().params.flat.size:,} parameters: ")

    def test_parameters_stay_the_same_object(self) -> None:
        """A trainer made before would go on with the old object, and train nothing."""
        model, other = toy_model(), toy_model(seed=1)
        with pytest.raises(AttributeError, match=r"^params: .*model\.params\.flat\[:\] = other\.flat"):
            model.params = other.params
        model.params.flat[:] = other.params.flat
        assert model.params == other.params and model.params is not other.params


class TestFiles:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @every_option
    def test_round_trip(self, tmp_path: Path, options: dict[str, Any], dtype: Any) -> None:
        model = toy_model(dtype=dtype, **options)
        model.save(tmp_path / "model.npz")
        again = Transformer.load(tmp_path / "model.npz")
        assert again.config == model.config
        assert again.params.flat.dtype == dtype
        np.testing.assert_array_equal(again.params.flat, model.params.flat)
        np.testing.assert_array_equal(again.forward(SRC, TGT)[0], model.forward(SRC, TGT)[0])

    @pytest.mark.parametrize(("name", "value"), [("norm_eps", 1e-5), ("attention_dropout", 0.0)])
    def test_a_file_from_before_a_field(self, tmp_path: Path, name: str, value: float) -> None:
        """Files of format 1 may not state fields that were added later. New files do."""
        path = tmp_path / "model.npz"
        toy_model().save(path)
        arrays, metadata = load_arrays(path)
        assert metadata["config"].pop(name) == value
        save_arrays(path, arrays, metadata)
        assert Transformer.load(path).config == toy_config()

    def test_the_path_is_taken_as_it_is(self, tmp_path: Path) -> None:
        toy_model().save(str(tmp_path / "model"))
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        toy_model(seed=1).save(tmp_path / "model")
        np.testing.assert_array_equal(Transformer.load(tmp_path / "model").params.flat, toy_model(seed=1).params.flat)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
            Transformer.load(tmp_path / "nothing.npz")

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        path = tmp_path / "model.npz"
        toy_model().save(path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.npz: damaged"):
            Transformer.load(path)

    @pytest.mark.parametrize(
        ("metadata", "cause"),
        [
            ({}, "'config'"),
            ({"config": 7}, "mapping"),
            ({"config": {"src_vocab": 9}}, "tgt_vocab"),
            ({"config": {"src_vocab": 9, "tgt_vocab": 11, "depth": 3}}, "depth"),
            ({"config": {"src_vocab": 9, "tgt_vocab": -1}}, "tgt_vocab: expected 1 or more, got -1"),
        ],
    )
    def test_no_valid_configuration(self, tmp_path: Path, metadata: dict[str, Any], cause: str) -> None:
        path = tmp_path / "model.npz"
        save_arrays(path, dict(toy_model().params), metadata)
        with pytest.raises(CheckpointError, match=rf"model\.npz: no valid model configuration \(.*{cause}.*\)"):
            Transformer.load(path)

    def test_parameters_of_another_model(self, tmp_path: Path) -> None:
        path = tmp_path / "model.npz"
        toy_model().save(path)
        arrays, metadata = load_arrays(path)
        arrays["decoder.norm.gamma"] = np.ones(6)
        arrays["encoder.0.self_attention.W_Q"] = np.ones((6, 3))
        del arrays["encoder.0.norm_1.beta"]
        save_arrays(path, arrays, metadata)
        with pytest.raises(CheckpointError) as caught:
            Transformer.load(path)
        assert str(caught.value) == (
            f"{path}: 3 parameters do not fit the configuration: "
            "decoder.norm.gamma: expected None, got (6,); "
            "encoder.0.norm_1.beta: expected (6,), got None; "
            "encoder.0.self_attention.W_Q: expected (6, 6), got (6, 3)"
        )


class TestFromArrays:
    @pytest.mark.parametrize("n", [3, 4])
    def test_fewer_arrays_than_layers(self, n: int) -> None:
        """With fewer arrays than layers, the missing names are not even made; with as many arrays, they are."""
        arrays = {f"x{i}": np.ones(1) for i in range(n)}
        with pytest.raises(CheckpointError) as caught:
            Transformer.from_arrays(toy_config(), arrays, "here")
        few = "here: expected parameters of 4 layers, got 3 arrays"
        many = f"here: {4 + len(toy_config().shapes())} parameters do not fit the configuration: "
        assert str(caught.value) == few if n == 3 else str(caught.value).startswith(many)

    def test_two_dtypes(self) -> None:
        arrays = toy_params(toy_config())
        arrays["encoder.1.norm_2.gamma"] = np.ones(6, np.float32)
        with pytest.raises(CheckpointError) as caught:
            Transformer.from_arrays(toy_config(), arrays)
        assert str(caught.value) == "arrays: expected float32 or float64 for all parameters, got float32, float64"

    def test_copies(self) -> None:
        config = toy_config()
        arrays = toy_params(config)
        model = Transformer.from_arrays(config, arrays)
        assert all(np.array_equal(model.params[name], arrays[name]) for name in arrays)
        model.params.flat[:] = 0
        assert arrays["encoder.0.norm_1.gamma"].all()

    def test_at_most_five_differences_are_listed(self) -> None:
        arrays = {f"x{i}": np.ones(1) for i in range(9)}
        n = 9 + len(toy_config().shapes())
        with pytest.raises(CheckpointError) as caught:
            Transformer.from_arrays(toy_config(), arrays)
        assert str(caught.value).startswith(f"arrays: {n} parameters do not fit the configuration: ")
        assert str(caught.value).count("; ") == 4

    @pytest.mark.parametrize("dtype", [np.float16, np.int64, np.float32])
    def test_dtypes_that_do_not_fit(self, dtype: Any) -> None:
        """All arrays have one dtype, float32 or float64. A silent conversion would change the model."""
        arrays = toy_params(toy_config())
        arrays["encoder.1.norm_2.gamma"] = np.ones(6, dtype)
        with pytest.raises(CheckpointError, match=rf"^arrays: expected float32 or float64 for all .*{np.dtype(dtype)}"):
            Transformer.from_arrays(toy_config(), arrays)
        every = {name: array.astype(dtype) for name, array in arrays.items()}
        if dtype is not np.float32:
            with pytest.raises(CheckpointError, match=rf"got {np.dtype(dtype)}$"):
                Transformer.from_arrays(toy_config(), every)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transformer(None), "TypeError: config: expected a TransformerConfig, got NoneType"),  # type: ignore[arg-type]
        (lambda: Transformer(toy_config(), rng=-1), "ValueError: rng: expected 0 or more, got -1"),
        (lambda: Transformer(toy_config(), rng="0"),  # type: ignore[arg-type]
         "TypeError: rng: expected a numpy.random.Generator or an integer seed, got '0'"),
        (lambda: Transformer(toy_config(), dtype=None), "TypeError: dtype: expected float32 or float64, got None"),
        (lambda: Transformer(toy_config(d_ff=2**50)),
         f"ValueError: config: expected no more numbers than memory has room for, got {52 * 2**50 + 1272}"),
        (lambda: Transformer.from_arrays({}, {}),  # type: ignore[arg-type]
         "TypeError: config: expected a TransformerConfig, got dict"),
        (lambda: Transformer.from_arrays(toy_config(), []),  # type: ignore[arg-type]
         "TypeError: arrays: expected a mapping of names to NumPy arrays, got list"),
        (lambda: Transformer.from_arrays(toy_config(), {"W": [1.0]}),  # type: ignore[dict-item]
         "TypeError: arrays: 'W': expected a NumPy array, got list"),
        (lambda: toy_model().loss_and_gradients(SRC, TGT, smoothing=1.5),
         "ValueError: smoothing: expected 0 ≤ smoothing < 1, got 1.5"),
        (lambda: toy_model().backward(np.ones((4, 3, 11)), None),  # type: ignore[arg-type]
         "TypeError: cache: expected what forward returned, a npattn.transformer.fast.transformer.TransformerCache, "
         "got NoneType"),
        (lambda: toy_model().backward(np.ones((4, 3, 11)), toy_model().forward(SRC, TGT)[1].decoder),  # type: ignore[arg-type]
         "TypeError: cache: expected what forward returned, a npattn.transformer.fast.transformer.TransformerCache, "
         "got npattn.transformer.fast.encoder_decoder.LayersCache"),
    ],
)  # fmt: skip
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert f"{caught.type.__name__}: {caught.value}" == message
