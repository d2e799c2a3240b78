"""`Parameters`: the named views and the flat buffer stay the same memory."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import Adam, Parameters
from npattn._internal.checks import Array
from npattn.transformer.parameters import dotted, nested
from support.transformer_toys import toy_config, toy_model, toy_params

SHAPES: dict[str, tuple[int, ...]] = {"W": (2, 3), "b": (5,), "scalar": (), "empty": (0, 4), "last": (3, 1, 2)}
DTYPES = st.sampled_from([np.float32, np.float64])


def numbered(dtype: Any = np.float32) -> Parameters:
    params = Parameters(SHAPES, dtype)
    params.flat[:] = np.arange(params.flat.size)
    return params


def is_whole(params: Parameters) -> bool:
    """Whether the blocks, one after another, are the whole buffer, and each of its numbers is in one view."""
    before = params.flat.copy()
    params.flat[:] = np.arange(params.flat.size)
    pieces = [block.ravel() for block in params.blocks.values()]
    shared = all(not view.size or np.shares_memory(view, params.flat) for view in params.values())
    whole = np.array_equal(np.concatenate(pieces), np.arange(params.flat.size)) and shared
    names = np.concatenate([view.ravel() for view in params.values()])
    whole = whole and np.array_equal(np.sort(names), np.arange(params.flat.size))
    params.flat[:] = before
    return bool(whole)


class TestEquality:
    def test_the_same_numbers_are_equal(self) -> None:
        """A mapping compares its values by ==, which is an array of truths here."""
        params = numbered()
        assert params == copy.copy(params) == params.copy() == dict(params)
        assert dict(params) == params and params == {name: array.astype(float) for name, array in params.items()}

    @pytest.mark.parametrize("name", [name for name in SHAPES if name != "empty"])
    def test_another_number_shape_or_name(self, name: str) -> None:
        params = numbered()
        other = params.copy()
        other[name][...] += 1
        assert params != other and params != other.blocks
        assert params != dict(params) | {name: params[name][None]}
        assert params != {n: array for n, array in params.items() if n != name}
        assert params != dict(params) | {"new": np.ones(1)} and params != 7 and params is not None


class TestViews:
    @given(DTYPES)
    def test_starts_as_zeros_of_its_shapes(self, dtype: Any) -> None:
        params = Parameters(SHAPES, dtype)
        assert params.flat.shape == (6 + 5 + 1 + 0 + 6,)
        assert params.flat.dtype == dtype
        assert not params.flat.any()
        assert {name: view.shape for name, view in params.items()} == SHAPES == params.shapes
        assert all(view.dtype == dtype for view in params.values())
        assert is_whole(params)

    def test_is_a_mapping_in_the_order_of_its_shapes(self) -> None:
        params = numbered()
        assert isinstance(params, Mapping)
        assert list(params) == list(SHAPES)
        assert len(params) == 5
        assert "b" in params and "c" not in params
        assert params["W"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert params["scalar"] == 11
        assert params["last"].tolist() == [[[12, 13]], [[14, 15]], [[16, 17]]]

    def test_writing_a_view_writes_the_buffer_and_back(self) -> None:
        params = numbered()
        params["b"][2] = -7
        assert params.flat[8] == -7
        params.flat[0] = 99
        assert params["W"][0, 0] == 99
        params["scalar"][...] = 4
        assert params.flat[11] == 4

    @given(DTYPES, st.integers(0, 2**32))
    def test_assigning_copies(self, dtype: Any, seed: int) -> None:
        params = numbered(dtype)
        view = params["W"]
        value = np.random.default_rng(seed).normal(size=(2, 3))
        params["W"] = value
        assert params["W"] is view
        assert not np.shares_memory(view, value)
        np.testing.assert_array_equal(params.flat[:6], value.astype(dtype).ravel())
        np.testing.assert_array_equal(params.flat[6:], np.arange(6, 18))

    def test_augmented_assignment(self) -> None:
        params = numbered()
        params["b"] += 10
        params["b"] *= 2
        assert params.flat[6:11].tolist() == [32, 34, 36, 38, 40]
        params["b"] = params["b"][::-1]
        assert params.flat[6:11].tolist() == [40, 38, 36, 34, 32]

    @pytest.mark.parametrize("shape", [(3, 2), (6,), (1, 2, 3), (), (1, 3)])
    def test_a_wrong_shape_changes_nothing(self, shape: tuple[int, ...]) -> None:
        params = numbered()
        with pytest.raises(ValueError) as caught:
            params["W"] = np.zeros(shape)
        assert str(caught.value) == f"W: expected (2, 3), got {shape}"
        np.testing.assert_array_equal(params.flat, np.arange(18))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (np.ones((2, 3), complex), "TypeError: W: expected a NumPy array of real numbers, got complex128"),
            (np.full((2, 3), "1"), "TypeError: W: expected a NumPy array of real numbers, got <U1"),
            ([[1.0] * 3] * 2, "TypeError: W: expected a NumPy array of real numbers, got list"),
            (np.ma.masked_array(np.ones((2, 3))),
             "TypeError: W: expected a NumPy array of real numbers, got MaskedArray"),
            (np.full((2, 3), 1e39), "ValueError: W: expected numbers that float32 can hold, got larger ones"),
        ],
    )
    def test_a_wrong_value_changes_nothing(self, value: Any, message: str) -> None:
        params = Parameters({"W": (2, 3)})
        params.flat[:] = 7
        with pytest.raises((TypeError, ValueError)) as caught:
            params["W"] = value
        assert f"{caught.type.__name__}: {caught.value}" == message
        assert (params.flat == 7).all()

    def test_other_real_numbers_are_rounded(self) -> None:
        params = Parameters({"W": (2,)})
        numbers = [1, 2], [1.0, 1 / 3], [True, False], [np.inf, np.nan], [-np.inf, 2.0], np.array([1, 2], np.float16)
        for value in map(np.array, numbers):
            params["W"] = value
            np.testing.assert_array_equal(params["W"], value.astype(np.float32))

    def test_numbers_too_small_for_the_dtype_become_0(self) -> None:
        params = numbered()
        with np.errstate(all="raise"):
            params["b"] = np.full(5, 1e-300)
        assert not params["b"].any()

    def test_an_unknown_name(self) -> None:
        params = numbered()
        with pytest.raises(KeyError, match="'c'"):
            params["c"]
        with pytest.raises(KeyError, match="'c'"):
            params["c"] = np.zeros(1)

    def test_repr(self) -> None:
        params = Parameters({"W": (1000, 3)}, np.float64)
        assert repr(params) == "<Parameters: 3,000 numbers of float64 under 1 names>"


class TestCopies:
    @given(DTYPES)
    def test_like_is_zero_and_apart(self, dtype: Any) -> None:
        params = numbered(dtype)
        other = params.like()
        assert other.shapes == params.shapes
        assert other.flat.dtype == dtype
        assert not other.flat.any()
        assert not np.shares_memory(other.flat, params.flat)
        assert is_whole(other)

    @pytest.mark.parametrize(
        "copied",
        [Parameters.copy, copy.copy, copy.deepcopy, lambda params: pickle.loads(pickle.dumps(params))],
        ids=["copy()", "copy.copy", "deepcopy", "pickle"],
    )
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_a_copy_is_whole_and_apart(self, copied: Any, dtype: Any) -> None:
        params = numbered(dtype)
        other = copied(params)
        assert type(other) is Parameters
        assert other.flat.dtype == dtype
        assert list(other) == list(params)
        np.testing.assert_array_equal(other.flat, params.flat)
        assert is_whole(other)
        other["W"][...] = -1
        np.testing.assert_array_equal(params.flat, np.arange(18))

    def test_a_copied_model_trains_apart(self) -> None:
        model = toy_model()
        twin = copy.deepcopy(model)
        before = model.params.flat.copy()
        Adam(twin.params).step(twin.params.copy())
        np.testing.assert_array_equal(model.params.flat, before)
        assert (twin.params.flat != before).any()
        assert is_whole(twin.params)


class TestNested:
    def test_nested(self) -> None:
        a, b, c = np.arange(3), np.arange(2), np.arange(1)
        tree = nested({"a.0.x": a, "a.0.y": b, "a.1.x": b, "c": c})
        assert tree == {"a": {"0": {"x": a, "y": b}, "1": {"x": b}}, "c": c}
        assert tree["a"]["0"]["x"] is a

    def test_dotted_undoes_nested(self) -> None:
        params = toy_params(toy_config(norm="pre"))
        again: dict[str, Array] = dict(dotted(nested(params)))
        assert again.keys() == params.keys()
        assert all(again[name] is params[name] for name in params)

    def test_dotted_leaves_out_none(self) -> None:
        assert dict(dotted({"a": {"W": 1, "b": None}, "c": {}})) == {"a.W": 1}  # type: ignore[dict-item]


class TestSideBySide:
    SHAPES: ClassVar = {"c": (2,), "W_Q": (3, 2), "W_O": (3, 3), "W_K": (3, 1)}

    def test_one_block_strided_views(self) -> None:
        params = Parameters(self.SHAPES, np.float64, {"W_QK": ("W_Q", "W_K")})
        assert list(params) == list(self.SHAPES)
        assert is_whole(params)
        params["W_Q"], params["W_K"] = np.full((3, 2), 1.0), np.full((3, 1), 2.0)
        np.testing.assert_array_equal(params.blocks["W_QK"], [[1, 1, 2]] * 3)
        assert nested(params)["W_QK"] is params.blocks["W_QK"]
        assert "W_QK" not in params

    def test_copies_keep_the_blocks(self) -> None:
        params = Parameters(self.SHAPES, np.float64, {"W_QK": ("W_Q", "W_K")})
        params.flat[:] = np.arange(params.flat.size)
        for other in (params.copy(), copy.deepcopy(params), pickle.loads(pickle.dumps(params))):
            assert other.side_by_side == params.side_by_side
            assert all(np.array_equal(other[name], params[name]) for name in params)
        assert params.like().blocks.keys() == params.blocks.keys()

    def test_rows_must_match(self) -> None:
        with pytest.raises(ValueError) as caught:
            Parameters({"W_Q": (3, 2), "W_K": (2, 2)}, np.float64, {"W_QK": ("W_Q", "W_K")})
        assert str(caught.value) == "W_Q, W_K: expected the same number of rows side by side, got [(3, 2), (2, 2)]"

    def test_a_union_of_one_name(self) -> None:
        params = Parameters({"b": (2,), "W": (3, 2)}, np.float64, {"W_1": ("W",)})
        assert is_whole(params)
        assert np.shares_memory(params["W"], params.blocks["W_1"])
        assert list(params.blocks) == ["W_1", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([("W", (2, 3))],), "TypeError: shapes: expected a mapping of names to shapes, got list"),
        (({1: (2,)},), "TypeError: shapes: expected names with tuples of sizes, got 1 with tuple"),
        (({"W": [2]},), "TypeError: shapes: expected names with tuples of sizes, got 'W' with list"),
        (({"W": (2, -3)},), "ValueError: shapes: 'W': expected 0 or more, got -3"),
        (({"W": (2.0,)},), "TypeError: shapes: 'W': expected an integer, got 2.0"),
        (({"W": (2**40, 2**20), "b": (5,)},),
         f"ValueError: shapes: expected no more numbers than memory has room for, got {2**60 + 5}"),
        (({"W": (2,)}, complex), "TypeError: dtype: expected float32 or float64, got complex128"),
        (({"W": (2,)}, "f4", ["W"]), "TypeError: side_by_side: expected a mapping of names to names, got list"),
        (({"W": (2,)}, "f4", {"U": ()}), "ValueError: side_by_side: 'U': expected a tuple of names with axes, got ()"),
        (({"W": (2,)}, "f4", {"U": "W"}),
         "ValueError: side_by_side: 'U': expected a tuple of names with axes, got 'W'"),
        (({"W": (2,)}, "f4", {"U": ("W", "V")}),
         "ValueError: side_by_side: 'U': expected a tuple of names with axes, got ('W', 'V')"),
        (({"W": (2,), "s": ()}, "f4", {"U": ("W", "s")}),
         "ValueError: side_by_side: 'U': expected a tuple of names with axes, got ('W', 's')"),
    ],
)
def test_wrong_layouts(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Parameters(*arguments)
    assert f"{caught.type.__name__}: {caught.value}" == message
