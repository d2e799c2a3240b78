"""The error messages of `Parameters` and `Transformer` for wrong arguments, word by word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn import Parameters, Transformer
from support.transformer_toys import SRC, TGT, toy_config, toy_model

SHAPES = {"W": (2, 3), "b": (3,)}


def error_of(error: type[Exception], function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert type(caught.value) is error
    return str(caught.value)


class TestParameters:
    @pytest.mark.parametrize(
        ("shapes", "error", "message"),
        [
            ([("W", (2, 3))], TypeError, "shapes: expected a mapping of names to shapes, got list"),
            ({7: (2, 3)}, TypeError, "shapes: expected names with tuples of sizes, got 7 with tuple"),
            ({"b": 3}, TypeError, "shapes: expected names with tuples of sizes, got 'b' with int"),
            ({"W": (2, 3.0)}, TypeError, "shapes: 'W': expected an integer, got 3.0"),
            ({"W": (2, -1)}, ValueError, "shapes: 'W': expected 0 or more, got -1"),
            (
                {"W": (2**40, 2**20), "b": (5,)}, ValueError,
                f"shapes: expected no more numbers than memory has room for, got {2**60 + 5}",
            ),
        ],
    )  # fmt: skip
    def test_shapes(self, shapes: Any, error: type[Exception], message: str) -> None:
        assert error_of(error, Parameters, shapes) == message

    @pytest.mark.parametrize(
        ("side_by_side", "error", "message"),
        [
            ("WW", TypeError, "side_by_side: expected a mapping of names to names, got str"),
            ({"U": "W"}, ValueError, "side_by_side: 'U': expected a tuple of names with axes, got 'W'"),
            ({"U": ()}, ValueError, "side_by_side: 'U': expected a tuple of names with axes, got ()"),
            ({"U": ("W", "V")}, ValueError, "side_by_side: 'U': expected a tuple of names with axes, got ('W', 'V')"),
            ({"U": ("W", "s")}, ValueError, "side_by_side: 'U': expected a tuple of names with axes, got ('W', 's')"),
        ],
    )
    def test_side_by_side(self, side_by_side: Any, error: type[Exception], message: str) -> None:
        shapes: dict[str, tuple[int, ...]] = SHAPES | {"s": ()}
        assert error_of(error, Parameters, shapes, np.float32, side_by_side) == message

    def test_dtype(self) -> None:
        assert error_of(TypeError, Parameters, SHAPES, np.int64) == "dtype: expected float32 or float64, got int64"

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ([[1.0] * 3] * 2, TypeError, "W: expected a NumPy array of real numbers, got list"),
            (np.ones((2, 3), complex), TypeError, "W: expected a NumPy array of real numbers, got complex128"),
            (np.full((2, 3), 1e39), ValueError, "W: expected numbers that float32 can hold, got larger ones"),
        ],
    )
    def test_values(self, value: Any, error: type[Exception], message: str) -> None:
        params = Parameters(SHAPES)
        params.flat[:] = 7
        assert error_of(error, params.__setitem__, "W", value) == message
        assert (params.flat == 7).all()

    @pytest.mark.parametrize("kind", [np.int64, np.float16, np.float64, bool])
    def test_other_real_numbers_are_rounded(self, kind: Any) -> None:
        params = Parameters(SHAPES)
        params["b"] = np.array([0, 1, 0]).astype(kind)
        assert params.flat.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0]
        params["b"] = np.array([np.inf, -np.inf, 1 / 3])
        assert params["b"].tolist() == [np.inf, -np.inf, float(np.float32(1 / 3))]


class TestTransformer:
    def test_config(self) -> None:
        message = error_of(TypeError, Transformer, {"src_vocab": 9})
        assert message == "config: expected a TransformerConfig, got dict"

    def test_room(self) -> None:
        config = toy_config(src_vocab=2**50)
        numbers = Transformer(toy_config()).params.flat.size + (2**50 - 9) * 6
        message = error_of(ValueError, Transformer, config)
        assert message == f"config: expected no more numbers than memory has room for, got {numbers}"

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"dtype": np.float16}, TypeError, "dtype: expected float32 or float64, got float16"),
            ({"rng": "0"}, TypeError, "rng: expected a numpy.random.Generator or an integer seed, got '0'"),
            ({"rng": -1}, ValueError, "rng: expected 0 or more, got -1"),
        ],
    )
    def test_options(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        assert error_of(error, Transformer, toy_config(), **options) == message

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ([], "arrays: expected a mapping of names to NumPy arrays, got list"),
            ({"W": [1.0]}, "arrays: 'W': expected a NumPy array, got list"),
        ],
    )
    def test_arrays(self, arrays: Any, message: str) -> None:
        assert error_of(TypeError, Transformer.from_arrays, toy_config(), arrays) == message

    def test_another_cache(self) -> None:
        model = toy_model()
        logits, cache = model.forward(SRC, TGT)
        message = error_of(TypeError, model.backward, logits, cache.decoder)
        assert message == (
            "cache: expected what forward returned, a npattn.transformer.fast.transformer.TransformerCache, "
            "got npattn.transformer.fast.encoder_decoder.LayersCache"
        )

    def test_smoothing(self) -> None:
        message = error_of(ValueError, toy_model().loss_and_gradients, SRC, TGT, smoothing=1.5)
        assert message.startswith("smoothing: expected ") and message.endswith(", got 1.5")
