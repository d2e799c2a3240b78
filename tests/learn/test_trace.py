"""A trace shows what forward and backward compute, and each gradient in it is that of the complex step."""

from __future__ import annotations

import copy
import gc
import inspect
import json
import linecache
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import npattn
from npattn._internal.checks import Array
from npattn.attention import v4_multiple_queries as v4
from npattn.attention import v5_cross_attention as v5
from npattn.attention import v7_multi_head as v7
from npattn.attention import v12_normalised, v13_latent
from npattn.cli.check.cases import Case, cases
from npattn.cli.trace.example import example, targets
from npattn.gradcheck.pair import argument_names
from npattn.layers import rotary_frequencies
from npattn.learn.trace import Trace
from npattn.learn.trace.recorder import Call
from npattn.learn.trace.run import formulas
from npattn.learn.trace.text import first_numbers, matrix_lines, row_sums, stack_lines, unit_of
from npattn.learn.trace.transformer import Reading, trace_layer, trace_model
from npattn.runs import load_model
from npattn.transformer import reference

#: Pairs of the package itself; others are adapted by a function of `cases`, around which there is nothing to show.
CASES = [
    case
    for case in cases()
    if case.group in ("attention", "layers", "core") and case.forward.__module__ != "npattn.cli.check.cases"
]
LAYERS = [(side, norm) for side in ("encoder", "decoder") for norm in ("post", "pre")]
TOLERANCE = 1e-12


def traced(case: Case) -> Trace:
    return npattn.trace((case.forward, case.backward), case.args, None, dict(case.options))


def arguments() -> tuple[Array, ...]:
    """Q, X, W_K and W_V of version 5: two queries, three inputs."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(2, 4)), rng.normal(size=(3, 5)), rng.normal(size=(5, 4)), rng.normal(size=(5, 6))


def compared(found: Trace) -> list[str]:
    """Return the names with a gradient in the shape of their array."""
    return [name for name, v in found.items() if v.array is not None and np.shape(v.gradient) == v.array.shape]


def assert_derivatives(found: Trace) -> None:
    """Every number of every gradient is the complex step's. That of b_K is 0 but for rounding."""
    for name in compared(found):
        exact, shown = found.derivative(name), found[name].gradient
        assert np.abs(shown - exact).max() <= TOLERANCE * max(np.abs(exact).max(), name == "b_K"), name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_shown_is_what_forward_and_backward_compute(case: Case) -> None:
    found = traced(case)
    y, cache = case.forward(*case.args, **copy.deepcopy(dict(case.options)))
    output = found[next(iter(inspect.signature(case.backward).parameters))[1:]]
    assert output.array is not None and np.array_equal(output.array, y)
    for name in ("Q", "K", "V", "A"):                         # lower case in versions 1 to 3
        if case.group == "attention" and hasattr(cache, name):
            assert any(np.array_equal(value.array, getattr(cache, name)) for value in found.values()), name
    returned = case.backward(output.gradient, cache)
    wanted = [each for each in (returned if isinstance(returned, tuple) else (returned,)) if each is not None]
    shown = [found[name].gradient for name in argument_names(case.forward, len(case.args)) if name in found]
    for one, other in zip([each for each in shown if each is not None], wanted, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_gradient_is_that_of_the_complex_step(case: Case) -> None:
    errors = traced(case).errors()
    assert len(errors) >= 2 and max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("module", [version.module for version in npattn.attention.VERSIONS], ids=lambda m: m.__name__)
def test_scores_and_weights_have_gradients_in_every_version(module: Any) -> None:
    case = next(case for case in CASES if case.forward is module.forward)
    found = traced(case)
    e = "E" if "E" in found else "e"
    a = e.replace("E", "A").replace("e", "a")
    assert {e, a} <= set(compared(found))
    assert row_sums(found[a].array) == "rows sum to 1" and row_sums(found[e].gradient) == "rows sum to 0"


@pytest.mark.parametrize("version", npattn.attention.MODERN_VERSIONS, ids=lambda version: version.name)
def test_the_worked_example_of_every_modern_version(version: Any) -> None:
    """Scores, caps, weights and states have gradients, and all are those of the complex step."""
    found = npattn.trace(*example(targets()[f"v{version.number}"], {}))
    errors = found.errors()
    assert len(errors) >= 7 and max(errors.values()) <= TOLERANCE, errors
    assert ({"S (2)"} if version.number == 14 else {"E", "A"}) <= errors.keys()


def test_norms_and_rotations_of_versions_12_and_13_have_their_own_gradients() -> None:
    """A name that is normalised, rotated and joined to a past has several values; each has the gradient of its own."""
    rng = np.random.default_rng(0)
    widths: dict[Any, list[Any]] = {
        v12_normalised: [(3, 5), (5, 8), (5, 8), (5, 6), (6, 4), None, None, None, 4, 4],
        v13_latent: [(3, 5), (6, 8), (6, 4), (5, 4), (5, 2), (4, 8), (4, 6), (6, 4), 4, (5, 6), 6, None, None],
    }
    for module, shapes in widths.items():
        args = tuple(None if shape is None else rng.normal(size=shape) for shape in shapes)
        kwargs: dict[str, Any] = {"n_heads": 2, "frequencies": rotary_frequencies(4 if module is v12_normalised else 2)}
        kwargs |= {"n_kv_heads": 2} if module is v12_normalised else {}
        errors = npattn.trace(module, args, None, kwargs).errors()
        assert max(errors.values()) <= TOLERANCE, errors
        assert ({"Q (2)", "K (2)"} if module is v12_normalised else {"C (2)", "C_Q", "Q_R (2)"}) <= errors.keys()


def test_every_number_of_version_5_and_its_steps() -> None:
    Q, X, W_K, W_V = arguments()
    dY = np.random.default_rng(4).normal(size=(2, 6))
    mask = np.array([[True, False, True], [True, True, True]])
    found = npattn.trace(v5, (Q, X, W_K, W_V), dY, {"mask": mask})
    assert list(found) == ["Q", "X", "W_K", "W_V", "mask", "K", "V", "E", "E (2)", "A", "Y"]
    assert_derivatives(found)
    assert np.array_equal(found.dE[0, 1], 0.0) and found["mask"].gradient is None
    assert np.array_equal(found["E (2)"].gradient, found.dE / math.sqrt(4)) and found["E (2)"].array is None
    assert found["K"].axes == ("N_X", "D_Q") and found["E"].formula == "E = Q Kᵀ / √D_Q"
    assert found["E"].gradient_formula == "dE = A ⊙ (dA − rowsum(A ⊙ dA))" and found["E (2)"].gradient_formula == ""
    assert [line.code for line in found["X"].gradient_lines] == ["dX = project(dV, W_V.T)", "dX += project(dK, W_K.T)"]
    assert [step.name for step in found.steps if step.line and step.name[:1] == "d"] == [
        "dA", "dV", "dE", "dE", "dK", "dQ", "dX", "dX", "dW_K", "dW_V",
    ]  # fmt: skip


def test_version_7_has_gradients_of_merged_heads() -> None:
    case = next(case for case in CASES if case.forward is v7.forward)
    found = traced(case)
    for name in "QKV":
        assert np.allclose(v7.split_heads(found[name].gradient, 3), found.derivative(name), rtol=0, atol=1e-12)
    assert np.allclose(v7.merge_heads(found.dY), found.derivative("Y"), rtol=0, atol=1e-12)


def test_lines_are_those_of_the_file() -> None:
    found = npattn.trace(v5, arguments())
    for step in found.steps:
        assert step.line is not None
        text = linecache.getline(v5.__file__, step.line.number)
        assert text.strip().startswith(step.line.code) and text.rstrip().endswith(step.line.comment)


@pytest.mark.parametrize(("side", "norm"), LAYERS)
def test_a_layer_of_the_transformer(side: Any, norm: Any) -> None:
    found = trace_layer(side, norm)
    for part in (found, *found.parts.values()):
        assert_derivatives(part)
    assert {"norm_1", "self_attention", "feed_forward"} <= found.parts.keys()
    assert ("cross_attention" in found.parts) == (side == "decoder")
    attention = found.parts["self_attention"]
    assert {"X_Q", "X", "W_Q", "W_K", "W_V", "W_O", "b_Q", "E", "A", "Z"} <= set(compared(attention))
    assert {"gamma", "beta", "I", "Y"} <= set(compared(found.parts["norm_1"]))
    assert {"W_1", "b_2", "X", "H", "F"} <= set(compared(found.parts["feed_forward"]))
    assert attention["W_Q"].gradient_lines[0].code == "dW_Q = weight_gradient(X_Q, dQ)"
    assert attention["b_Q"].gradient is not None and attention["b_Q"].gradient_lines == ()
    term, first = found.parts["norm_1"]["X (2)"], found.parts["norm_1"]
    assert term.array is None and term.label == "dX, the way through f"
    assert first.title == "sub-layer 1 (self-attention): npattn.transformer.reference.sub_layer"
    assert "dX, the way through f  (3, 4)" in str(first) and first["gamma"].gradient_lines == ()
    assert compared(found)[: 3 + (side == "decoder")] == ["X", "X (2)", "X (3)", "X (4)"][: 3 + (side == "decoder")]


@pytest.fixture(scope="module")
def reading() -> Reading:
    return trace_model(load_model("g2p"), "knight")


def test_a_trained_model(reading: Reading) -> None:
    model = load_model("g2p")
    found = reading.trace
    steps = model.probabilities("knight", "N AY T")
    assert math.isclose(reading.loss, -sum(math.log(step.probabilities[step.symbol]) for step in steps), rel_tol=1e-4)
    assert (reading.source, reading.target) == (list("knight"), ["N", "AY", "T", "<eos>"])
    params = {name: array.astype(np.float64) for name, array in model.transformer.params.items()}
    src, tgt = (found[name].array for name in ("src", "tgt"))
    logits, cache = reference.forward(params, src, tgt, model.transformer.config)
    assert np.array_equal(found.logits, logits)
    right = np.eye(logits.shape[-1])[model.codec.target_vocabulary.encode(["N", "AY", "T"])]
    assert np.allclose(found.dlogits[0, :3], npattn.layers.softmax(logits[0, :3]) - right, rtol=0, atol=1e-15)
    for name, gradient in reference.backward(found.dlogits, cache).items():
        assert np.array_equal(found[name].gradient, gradient), name
    for name in ("S", "decoder.2.cross_attention.A"):
        value = found[name]
        assert value.gradient is not None
        index = tuple(map(int, np.unravel_index(np.abs(value.gradient).argmax(), value.gradient.shape)))
        assert math.isclose(value.gradient[index], found.derivative(name, index), rel_tol=TOLERANCE)


@pytest.mark.long
def test_every_gradient_of_a_trained_model(reading: Reading) -> None:
    layers = {path: part for path, part in reading.trace.parts.items() if path.startswith(("encoder.0", "decoder.2"))}
    parts = {"": reading.trace} | layers
    errors = {f"{path}.{name}": error for path, part in parts.items() for name, error in part.errors().items()}
    assert len(errors) > 80 and max(errors.values()) <= TOLERANCE


def test_a_text_with_a_target_of_ones_own(reading: Reading) -> None:
    other = trace_model(load_model("g2p"), "knight", "K N IH T")
    assert other.loss > reading.loss and other.target == ["K", "N", "IH", "T", "<eos>"]


# ---- functions of the user's own ---------------------------------------------------------------------------------


def scaled(X: Array, factor: float = 2.0, *, times: int = 2, mask: Array | None = None) -> tuple[Array, Any]:
    """A forward with a loop, a branch, a change in place by a call, and a helper that stays whole."""
    Y = X.copy()
    for _ in range(times):
        Y = Y * factor                                        # (…, N, D)
    if mask is not None:
        np.copyto(Y, 0, where=~mask)
    return Y, (factor, times, mask)


def scaled_backward(dY: Array, cache: Any) -> Array:
    factor, times, mask = cache
    dX = dY * factor**times
    if mask is None:
        return dX
    return dX * mask


def test_loops_branches_and_calls_that_write() -> None:
    X, mask = np.array([[1.0, 2.0]]), np.array([[True, False]])
    found = npattn.trace((scaled, scaled_backward), (X, 3.0), np.array([[1.0, 1.0]]), {"mask": mask})
    assert list(found) == ["X", "mask", "Y", "Y (2)", "Y (3)"]
    assert np.array_equal(found["Y (2)"].array, 3 * X) and np.array_equal(found["Y (3)"].array, [[9.0, 0.0]])
    assert [line.code for line in found["Y (3)"].lines] == ["Y = Y * factor", "np.copyto(Y, 0, where=~mask)"]
    assert np.array_equal(found.dX, [[9.0, 0.0]]) and np.array_equal(found.derivative("Y (2)"), [[3.0, 0.0]])
    made_by = ["dX = dY * factor**times", "return dX * mask"]
    assert [line.code for line in found["X"].gradient_lines] == made_by
    assert found["Y"].axes == () and found["Y (2)"].axes == ()
    assert np.array_equal(X, [[1.0, 2.0]]) and {"X", "dX", "derivative"} <= set(dir(found))


def attend(q: Array, X: Array) -> tuple[Array, Any]:
    E = q @ X.T
    A, c_A = weights(E)
    Y, c_Y = weights(A @ X)
    return Y, (q, X, A, c_A, c_Y)


def attend_backward(dY: Array, cache: Any) -> tuple[Array, Array]:
    q, X, A, c_A, c_Y = cache
    dS = weights_backward(dY, c_Y)
    dE = weights_backward(dS @ X.T, c_A)
    dX = A.T @ dS
    dX = dX + dE.T @ q
    return dE @ X, dX


def weights(E: Array) -> tuple[Array, Array]:
    A = np.exp(E)
    A = A / A.sum(-1, keepdims=True)
    return A, A


def weights_backward(dA: Array, A: Array) -> Array:
    dE = A * (dA - (A * dA).sum(-1, keepdims=True))
    return dE


def test_functions_inside_are_parts() -> None:
    q, X = np.random.default_rng(0).normal(size=(2, 3)), np.random.default_rng(1).normal(size=(4, 3))
    found = npattn.trace((attend, attend_backward), (q, X), inside=(weights, weights_backward))
    assert list(found.parts) == ["weights", "weights (2)"] and repr(found).endswith("S weights weights (2)>")
    for part in (found, *found.parts.values()):
        assert_derivatives(part)
    assert np.array_equal(found["weights.E"].array, found.E) and np.array_equal(found["weights.E"].gradient, found.dE)
    assert np.array_equal(found["weights (2).A (2)"].array, found.Y)
    assert [line.code for line in found["X"].gradient_lines] == ["dX = A.T @ dS", "dX = dX + dE.T @ q"]
    assert found["q"].gradient_lines[0].code == "return dE @ X, dX"
    assert npattn.trace((attend, attend_backward), (q, X)).parts == {}


def wrong_backward(dY: Array, cache: Any) -> tuple[Array, Array]:
    Q, X, A = cache
    dA = dY @ X.T
    dE = A * (dA - (A * dA).mean(-1, keepdims=True))
    dX = A.T @ dY
    return dE @ X / math.sqrt(Q.shape[-1]), dX + dE.T @ Q / math.sqrt(Q.shape[-1])


def test_a_planted_fault_is_found_where_it_is() -> None:
    Q, X = np.random.default_rng(0).normal(size=(2, 3)), np.random.default_rng(1).normal(size=(4, 3))
    errors = npattn.trace((v4.forward, wrong_backward), (Q, X)).errors()
    assert errors["A"] <= TOLERANCE and errors["Y"] <= TOLERANCE
    assert min(errors["E"], errors["Q"], errors["X"]) > 1e-3
    found = npattn.trace((v4.forward, wrong_backward), (Q, X))
    line = found.first_wrong_line(errors)
    assert line is not None and line.code.startswith("dE = A * (dA - (A * dA).mean")
    assert found.first_wrong_line({"A": errors["A"]}) is None
    right = npattn.trace(v4, (Q, X))
    assert right.first_wrong_line(right.errors()) is None


def alone(E: Array) -> Array:
    A = np.exp(E)
    return A


def alone_backward(dA: Array, A: Array) -> Array:
    return dA * A


def test_a_forward_without_a_cache_and_a_single_number() -> None:
    found = npattn.trace((alone, alone_backward), (np.array(0.0),))
    assert (float(found.A), float(found.dA), float(found.dE)) == (1.0, 1.0, 1.0)
    assert found.derivative("E", ()) == 1.0
    assert npattn.trace((alone, alone_backward), (np.zeros(2),), np.array([2.0, 3.0])).dE.tolist() == [2.0, 3.0]


def turned(X: Array) -> tuple[Array, None]:
    Z = X * 3
    Z = Z.T
    return Z * 2, None


def turned_backward(gradient: Array, cache: None) -> Array:
    dZ = gradient.T * 2
    return dZ * 3


def test_a_gradient_of_another_shape_is_not_taken_for_that_of_the_last_value() -> None:
    found = npattn.trace((turned, turned_backward), (np.ones((2, 3)),))
    assert list(found) == ["X", "Z", "Z (2)", "Z (3)", "y"]   # backward does not say how the output is called
    assert found["Z (2)"].gradient is None and found["Z (3)"].array is None
    assert np.array_equal(found.dX, 6 * found.dy.T) and found["y"].lines[0].code == "return Z * 2, None"


CALLS = 0


def counted(X: Array, depth: int = 2) -> tuple[Array, int]:
    """A global that is written, and a recursion: the inner calls stay whole."""
    global CALLS
    CALLS += 1
    if depth == 0:
        return X, CALLS
    Y, _ = counted(X * 2, depth - 1)
    return Y, CALLS


def counted_backward(dY: Array, calls: int) -> Array:
    assert CALLS == calls >= 3
    return dY * 4


def test_globals_are_those_of_the_module_and_a_recursion_is_one_call() -> None:
    before = CALLS
    found = npattn.trace((counted, counted_backward), (np.array([1.0, 2.0]),))
    assert before + 3 == CALLS and list(found) == ["X", "Y"] and np.array_equal(found.Y, [4.0, 8.0])
    assert len(npattn.trace((counted, counted_backward), (np.ones(2),), inside=(counted,)).parts) == 2
    assert_derivatives(found)


def with_closure(factor: float) -> tuple[Any, Any]:
    calls = np.array(0.0)

    def forward(X: Array) -> tuple[Array, None]:
        nonlocal calls
        calls = calls + 1
        Y = X * factor
        return Y, None

    def backward(dY: Array, cache: None) -> Array:
        return dY * factor * calls                            # right in the first call

    return forward, backward


def test_a_closure_is_shared_with_the_original() -> None:
    pair = with_closure(3.0)
    found = npattn.trace(pair, (np.ones(2),))
    assert list(found) == ["X", "calls", "Y"] and found.errors()["X"] == 0.0
    assert np.array_equal(pair[1](np.ones(2), None), [9.0, 9.0])   # X and Y took a call of forward each


def test_an_error_leaves_nothing_behind() -> None:
    space = dict(vars(inspect.getmodule(reference)))
    with pytest.raises(AttributeError, match="'int' object has no attribute"):
        npattn.trace(reference, ({"W": np.ones(2)}, 1, 2, 3), inside=(reference.embed, reference.embed_backward))
    assert vars(reference) == space


def two_names(X: Array) -> tuple[Array, None]:
    Z = np.zeros_like(X)
    Y = Z
    Y[:] = X * 2
    np.sum(Y)                                                 # changes nothing
    return Z * 3, None


def two_names_backward(dy: Array, cache: None) -> Array:
    dY = dy * 3
    dX = dY * 4
    dX /= 2                                                   # still dX, since it is returned
    return dX


def test_what_fills_an_array_is_seen_under_its_other_names() -> None:
    found = npattn.trace((two_names, two_names_backward), (np.ones(2),), np.array([1.0, 10.0]))
    assert list(found) == ["X", "Z", "Y", "y"] and [line.code for line in found["Y"].lines] == ["Y = Z", "Y[:] = X * 2"]
    assert np.allclose(found.derivative("Y"), found.dY, rtol=1e-15, atol=0) and np.array_equal(found.dY, [3.0, 30.0])
    assert [line.code for line in found["X"].gradient_lines] == ["dX = dY * 4", "dX /= 2"]


def more(X: Array) -> tuple[Array, None]:
    Y = X * 2
    return Y + 1, None


def more_backward(dY: Array, cache: None) -> Array:
    return dY * 2


def test_the_output_is_what_is_returned() -> None:
    found = npattn.trace((more, more_backward), (np.ones(2),))
    assert np.array_equal(found.Y, [3.0, 3.0]) and found["Y"].lines[-1].code == "return Y + 1, None"


def test_a_letter_with_two_formulas_gets_none() -> None:
    found = formulas("    Y = X    dX = dY\n    Y = 2X    dX += dZ\n    Z = Y")
    assert found == {"dX": "dX = dY,  dX += dZ", "Z": "Z = Y"}
    found = formulas("    s = exp(e)   or   σ(e)    t = s = 1\n    u = 2 or more")
    assert found == {"t": "t = s = 1"}


def test_formulas_are_those_of_forward_and_backward() -> None:
    sections = ("**Forward**\n\n    Y = X", "**In chunks**  of\n\n    Y = 2X    U = X", "**Backward**\n\n    dX = dY")
    assert formulas("Title\n\n    Z = 1\n\n" + "\n\n".join(sections)) == {"Z": "Z = 1", "Y": "Y = X", "dX": "dX = dY"}


def test_derivatives_keep_nothing() -> None:
    found = npattn.trace(v5, arguments())
    before = sum(isinstance(each, Call) for each in gc.get_objects())
    found.derivative("E")
    assert sum(isinstance(each, Call) for each in gc.get_objects()) <= before


def test_threads_can_share_a_trace() -> None:
    found = npattn.trace(v5, tuple(np.resize(array, (60, 60)) for array in arguments()))
    names = [name for name in ("Q", "W_K", "K", "E", "A") for _ in range(6)]
    right = {name: found.derivative(name, (3, 4)) for name in names}
    with ThreadPoolExecutor(4) as pool:
        assert dict(zip(names, pool.map(lambda name: found.derivative(name, (3, 4)), names), strict=True)) == right


def test_a_million_numbers_are_cut_before_they_are_written() -> None:
    X = np.random.default_rng(0).normal(size=(1000, 1000))
    begin = time.process_time()
    text = npattn.trace((alone, alone_backward), (X,)).text()
    assert "… 992 more rows, 996 more columns" in text and time.process_time() - begin < 5
    assert stack_lines(np.zeros((10**6, 1, 1)), 30, 3)[-1] == "… 999996 more matrices"
    for width in range(10, 40):                               # what is cut before is what did not fit
        assert matrix_lines(np.ones((1, 99)), width, 3)[0] == "  ".join("1" * (width // 3)) + " …"


def test_underflow_never_raises() -> None:
    """The decorator that ignores it is left out with all others."""
    with np.errstate(all="raise"):
        found = npattn.trace(v4, (np.full((1, 2), 1e-155), np.array([[1e-155, 0.0], [2e-155, 0.0]])))
    assert np.array_equal(found.A, [[0.5, 0.5]])


def test_the_gradient_of_the_loss_is_the_same_in_every_call() -> None:
    one, other = (npattn.trace(v5, arguments()) for _ in range(2))
    assert one == one and one != other and len({one, other}) == 2
    assert np.array_equal(one.dY, other.dY) and set(np.unique(one.dY)) <= {-2.0, -1.0, 1.0, 2.0}


def test_arguments_stay_as_they_were() -> None:
    given = arguments()
    found = npattn.trace(v5, given)
    found.derivative("E")
    assert all(np.array_equal(one, other) for one, other in zip(given, arguments(), strict=True))
    before = found.derivative("W_K")
    for array in given:
        array[:] = 0
    assert found.Q.any() and np.array_equal(found.derivative("W_K"), before)


def test_float32_stays_float32() -> None:
    found = npattn.trace(v5, tuple(array.astype(np.float32) for array in arguments()))
    assert {value.gradient.dtype for value in found.values() if value.gradient is not None} == {np.dtype(np.float32)}
    assert max(found.errors().values()) <= 1e-5


# ---- wrong calls -------------------------------------------------------------------------------------------------


def test_wrong_calls_name_the_argument() -> None:
    right = arguments()
    twice = eval("lambda X: (X, X)")                          # no source
    made: dict[str, Any] = {}
    exec("def made(X):\n    return X, X", made)
    for call, error, message in [
        (lambda: npattn.trace(3, right), TypeError, "pair: expected a module with forward and backward, or"),
        (lambda: npattn.trace((v5.forward,), right), TypeError, "pair: expected a module with forward and backward"),
        (lambda: npattn.trace((np.exp, v5.backward), right), TypeError, "pair, inside: expected functions writ"),
        (lambda: npattn.trace(Layer(), right), TypeError, "pair, inside: expected .*, no methods, got <bound method"),
        (lambda: npattn.trace((nothing, v5.backward), right[:1]), TypeError, "forward: expected floating num.* NoneT"),
        (lambda: npattn.trace((three, v5.backward), right[:1]), TypeError, "forward: expected to return a tup.* 3 thi"),
        (lambda: npattn.trace(v5, (*right, 1, 2, 3, 4, 5)), TypeError, r"^forward\(\) takes from 4 to "),
        (lambda: npattn.trace((twice, v5.backward), right), ValueError, "pair: expected functions whose source can"),
        (lambda: npattn.trace((made["made"], v5.backward), right), ValueError, "pair: expected functions whose source"),
        (lambda: npattn.trace(v5, right[0]), TypeError, "args: expected a tuple of arguments"),
        (lambda: npattn.trace(v5, right, kwargs=3), TypeError, "kwargs: expected a mapping"),
        (lambda: npattn.trace(v5, right, np.zeros((2, 5))), ValueError, r"dY: expected \(2, 6\) like the output"),
        (lambda: npattn.trace(v5, right, np.zeros((2, 6), int)), TypeError, "dY: expected an array of float64"),
        (lambda: npattn.trace((v4.forward, alone_backward), right[:1]), TypeError, "missing"),
        (lambda: npattn.trace((scaled, lambda_backward), (np.ones(2),)), ValueError, "backward: expected a gradient"),
        (lambda: npattn.trace(v5, right)["Z"], KeyError, "Z: expected one of Q, X, W_K, W_V, K, V, E"),
        (lambda: npattn.trace(v5, right).Z, AttributeError, "trace: expected one of Q, X, W_K"),
        (lambda: npattn.trace(v5, right).derivative("E (2)"), ValueError, "name: expected an array of real numbers"),
        (lambda: npattn.trace(v5, right).derivative("E", (5, 5)), IndexError, "out of bounds"),
        (lambda: npattn.trace((real, real_backward), (np.ones(2),)).derivative("X"), ValueError, "complex numbers"),
    ]:
        with pytest.raises(error, match=message):
            call()


class Layer:
    def forward(self, X: Array) -> Array:
        return X

    backward = forward


def nothing(X: Array) -> None: ...


def three(X: Array) -> tuple[Array, Array, Array]:
    return X, X, X


def lambda_backward(dY: Array, cache: Any) -> tuple[Array, Array]:
    return dY, dY


def real(X: Array) -> tuple[Array, Array]:
    Y = np.floor(X)
    return Y, X


def real_backward(dY: Array, cache: Any) -> Array:
    return dY * 0


# ---- text and JSON -----------------------------------------------------------------------------------------------


def test_the_text_has_the_numbers_beside_each_other() -> None:
    Q, X = np.array([[0.0, 2 * np.log(3), 0.0, 0.0]]), np.array([[4.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    text = str(npattn.trace(v4, (Q, X), np.array([[1.0, 0.0, 0.0, 0.0]])))
    assert max(map(len, text.splitlines())) <= 80
    assert "A  (N_Q=1, N_X=2)  rows sum to 1        dA  (N_Q=1, N_X=2)" in text
    assert "  0.25  0.75                              4  0" in text
    assert " dE/√D_Q  (N_Q=1, N_X=2)  rows sum to 0" in text and "dE /= sqrt_width(Q)" in text
    assert text.index("\nQ ") < text.index("\nX ") < text.index("\nE ") < text.index("\nA ") < text.index("\nY ")


def test_a_gradient_without_a_name_comes_from_the_complex_step() -> None:
    case = next(case for case in CASES if case.name.startswith("v1"))
    found = npattn.trace(
        (case.forward, case.backward), [a[0] if a.ndim > 1 and a.shape[0] == 2 else a for a in case.args]
    )
    assert found["H"].gradient is None and found["P"].array is None
    text = found.text(120)
    assert "dH  (N_X=6, D_E=4)" in text and "backward has no name for it" in text


def test_numbers_have_their_sign_their_unit_and_their_digits() -> None:
    lines = npattn.trace((more, more_backward), (np.array([[-0.51239, 1e-9]]),), np.array([[-1.5e-5, 3e-5]])).text()
    assert [" ".join(line.split()) for line in lines.splitlines()[5:]] == [
        "X (1, 2) dX (1, 2) in units of 1e-05", "-0.512 0.000 return dY * 2", "-3 6", "",
        "Y (1, 2) dY (1, 2) in units of 1e-05", "Y = X * 2 -1.5 3", "return Y + 1, None", "-0.025 1",
    ]  # fmt: skip


def test_what_does_not_fit_is_cut_and_said() -> None:
    X = np.arange(60.0).reshape(3, 20) + 0.5
    lines = stack_lines(np.stack([X] * 6), 30, 3)
    assert lines[0] == "[0]" and lines[1] == " 0.5   1.5   2.5   3.5   4.5 …" and lines[4] == "… 15 more columns"
    assert lines[-1] == "… 2 more matrices" and max(map(len, lines)) <= 30
    tall = stack_lines(np.arange(12.0)[:, None], 30, 3)
    assert tall[:2] == ["0", "1"] and tall[-1] == "… 4 more rows"
    assert matrix_lines(np.empty((0, 3)), 30, 3) == stack_lines(np.zeros((2, 0)), 30, 3) == []


def test_the_unit_is_that_of_the_numbers_that_are_shown() -> None:
    X = np.full((20, 40), 3e-5)
    X[15, 0] = X[0, 30] = 1.0                                 # both are cut
    assert "in units of 1e-05" in str(npattn.trace((alone, alone_backward), (np.zeros(X.shape),), X))
    X[7, 3] = 1.0
    assert "in units" not in str(npattn.trace((alone, alone_backward), (np.zeros(X.shape),), X))
    for shape, shown in (((), (1, 1, 1)), ((4,), (1, 1, 2)), ((0, 3), (1, 0, 2)), ((9, 5, 9, 4), (4, 8, 2))):
        assert first_numbers(np.zeros(shape), 2).shape == shown


def test_rounding_and_masks_are_said_in_words() -> None:
    case = next(case for case in CASES if case.forward is v7.forward)
    text = str(traced(case))
    assert re.search(r"db_K  \(H·D_Q=\d+,\)  0 but for rounding$", text, re.MULTILINE) and "1e-1" not in text
    assert text.count("0 but for rounding") == 1
    assert "mask  (N_Q=2, N_X=3)  1 = may be read" in str(npattn.trace(v5, (*arguments(), np.ones((2, 3), bool))))
    found = npattn.trace((scaled, scaled_backward), (np.ones((1, 2)),), None, {"mask": np.ones((1, 2), bool)})
    assert "1 = may be read" in str(found)


def test_units_and_row_sums() -> None:
    assert unit_of(np.array([3e-5, -1e-7])) == 1e-5 and unit_of(np.array([2e6])) == 1e6
    assert unit_of(np.array([0.02, 9000.0])) == unit_of(np.zeros(2)) == unit_of(np.array([True])) == 1
    assert unit_of(np.array([np.inf, np.nan])) == 1
    assert row_sums(np.array([[0.25, 0.75], [0.0, 0.0]])) == "rows sum to 1, or are 0"
    assert row_sums(np.array([[0.5, -0.5]])) == "rows sum to 0" and row_sums(np.array([[0.5, 0.6]])) == ""
    assert row_sums(np.eye(2)) == row_sums(np.array([[0.5]])) == row_sums(np.array(0.5)) == ""


def test_json_has_every_number() -> None:
    found = npattn.trace(v5, arguments(), None, {"mask": np.ones((2, 3), bool)})
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert [value["name"] for value in told["values"]] == list(found)
    for value in told["values"]:
        for key in ("array", "gradient"):
            wanted = getattr(found[value["name"]], key)
            assert (value[key] is None) == (wanted is None)
            assert wanted is None or np.array_equal(value[key], wanted)
    assert len(told["steps"]) == len(found.steps) and told["steps"][0]["line"]["code"] == "K = project(X, W_K)"


def test_json_says_null_for_infinity() -> None:
    found = npattn.trace((alone, alone_backward), (np.array([-np.inf, 0.0]),))
    assert found.as_dict()["values"][0]["array"] == [None, 0.0]
