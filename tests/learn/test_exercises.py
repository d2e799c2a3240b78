"""Exercises: starters, solutions, the words for typical mistakes, and files that are no solution at all."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npattn
from npattn import layers
from npattn.attention import VERSIONS, dot_product, masks, v7_multi_head, v9_rotary
from npattn.cli.terminal.console import width
from npattn.learn import exercises
from npattn.learn.exercises import BLANK, NAMES, RIGHT, WRONG, Exercise, Mistake, Result, grade, read, sheet
from npattn.learn.exercises.grading import difference
from npattn.transformer import TransformerConfig, reference

EXERCISES = [read(name) for name in NAMES]
SHEETS = Path(exercises.__file__).parent / "sheets"

each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=NAMES)


@pytest.fixture
def check(tmp_path: Path) -> Callable[[Exercise, str], Result]:
    def run(exercise: Exercise, code: str) -> Result:
        path = tmp_path / f"{exercise.name}.py"
        path.write_text(code, encoding="utf-8")
        return grade(exercise, path)

    return run


def change(exercise: Exercise, old: str, new: str) -> str:
    assert exercise.solved.count(old) == 1, old
    return exercise.solved.replace(old, new)


@each_exercise
def test_a_starter_is_blank_and_its_solution_is_right(exercise: Exercise, check: Any) -> None:
    starter, solved = check(exercise, exercise.starter), check(exercise, exercise.solved)
    assert {row.verdict for row in starter.rows} == {starter.verdict} == {BLANK}
    assert {row.verdict for row in solved.rows} == {solved.verdict} == {RIGHT}
    assert [row.name for row in starter.rows] == [row.name for row in solved.rows]


@each_exercise
def test_a_starter_is_its_solution_without_the_answers(exercise: Exercise) -> None:
    answers = [part["answer"] for part in sheet.PART.finditer(exercise.solution)]
    assert answers and sheet.MARK in exercise.starter
    solved = exercise.solved
    for answer in answers:
        assert not any(line in exercise.starter for line in answer.splitlines() if " = " in line)
        solved = solved.replace(answer, "")
    assert solved == re.sub(r"^ +\w+ = \.\.\.\n", "", exercise.starter, flags=re.M)


CASES = [(exercise, mistake) for exercise in EXERCISES for mistake in exercise.mistakes]


@pytest.mark.parametrize(("exercise", "mistake"), CASES, ids=[f"{e.name}-{m.new}" for e, m in CASES])
def test_a_typical_mistake_gets_its_words(exercise: Exercise, mistake: Mistake, check: Any) -> None:
    result = check(exercise, exercise._replace(solution=exercise.mistaken(mistake)).solved)
    wrong = [row for row in result.rows if row.verdict != RIGHT]
    assert result.verdict == WRONG and wrong
    assert {(row.verdict, row.words) for row in wrong} == {(WRONG, mistake.words)} and result.line == ""


@each_exercise
def test_a_sheet_is_complete(exercise: Exercise) -> None:
    assert len(exercise.hints) == 3 and all(len(hint) > 40 for hint in exercise.hints)
    assert len(exercise.mistakes) >= 5
    foundations = (SHEETS.parents[1] / "pages" / "foundations.md").read_text(encoding="utf-8")
    assert exercise.sections and all(re.search(rf"^## .*\b{name}\. ", foundations, re.M) for name in exercise.sections)
    assert max(width(line) for line in exercise.solved.splitlines()) <= 88
    text = (SHEETS / f"{exercise.name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {exercise.name}: ")
    listed = text.partition("## Mistakes")[2]
    others = re.findall(r"^- those of (\w+)$", listed, re.M)
    assert len(sheet.MISTAKE.findall(listed)) + len(others) == listed.count("\n- ")
    for other in others:
        assert len(set(read(other).mistakes) & set(exercise.mistakes)) >= 5
    answers = "".join(part["answer"] for part in sheet.PART.finditer(exercise.solution))
    assert all(answers.count(mistake.old) == 1 for mistake in exercise.mistakes)
    assert len({mistake.words for mistake in exercise.mistakes}) == len(exercise.mistakes)
    named = re.findall(r"exercise (\w+)|(\bv\d)\b|solved it in (\w+)", " ".join([exercise.question, *exercise.hints]))
    assert {name for names in named for name in names if name} <= set(NAMES[: NAMES.index(exercise.name)])


def test_every_sheet_is_listed() -> None:
    assert sorted(path.name for path in SHEETS.iterdir()) == sorted(f"{name}.md" for name in NAMES)
    assert len(set(NAMES)) == len(NAMES) >= 20
    with pytest.raises(KeyError, match="sofmax"):
        read("sofmax")


def run(code: str) -> dict[str, Any]:
    defined: dict[str, Any] = {}
    exec(code, defined)
    return defined


def heads(X: Any, W: Any, s: Any) -> tuple[Any, ...]:
    scaled = s[:, None, None] * v7_multi_head.split_heads(X @ W, len(s))
    return (v7_multi_head.merge_heads(scaled),)


def feed_forward(X: Any, W_1: Any, b_1: Any, W_2: Any, b_2: Any) -> tuple[Any, ...]:
    H, _ = layers.relu(layers.linear(X, W_1, b_1)[0])
    return (X + layers.linear(H, W_2, b_2)[0],)


def norm(X: Any) -> Any:
    return layers.layer_norm(X, np.ones(X.shape[-1]), np.zeros(X.shape[-1]))[0]


def two_norms(X: Any, W_1: Any, W_2: Any) -> tuple[Any, ...]:
    R = X + np.tanh(norm(X) @ W_1)
    return (norm(R + np.tanh(R @ W_2)),)


def decoder_layer(X: Any, M: Any, W_Q: Any, W_K: Any, W_V: Any, U_Q: Any, U_K: Any, U_V: Any, *W: Any) -> Any:
    """The decoder layer of the package, with its γ, β and W_O such that they do nothing."""
    config = TransformerConfig(9, 9, d_model=4, n_heads=1, d_ff=5, norm="pre", dropout=0.0, bias=False)
    keys, I = ("W_Q", "W_K", "W_V", "W_O"), np.eye(4)
    params: dict[str, Any] = {f"norm_{i}": {"gamma": np.ones(4), "beta": np.zeros(4)} for i in (1, 2, 3)}
    params["self_attention"] = dict(zip(keys, (W_Q, W_K, W_V, I), strict=True))
    params["cross_attention"] = dict(zip(keys, (U_Q, U_K, U_V, I), strict=True))
    params["feed_forward"] = dict(zip(("W_1", "W_2"), W, strict=True))
    seen = masks.causal_mask(len(X))
    return reference.decoder_layer(X, M, params, seen, np.full((1, len(M)), True), config, None)


def tied(ids: Any, W_E: Any, W: Any) -> tuple[Any, ...]:
    H = np.tanh(layers.linear(layers.embedding(ids, W_E)[0], W)[0])
    return (layers.linear(H, np.ascontiguousarray(W_E.T))[0],)


def adam(p: Any, g: Any, m: Any, v: Any, t: int, lr: float, beta_1: float, beta_2: float, eps: float) -> Any:
    params = {"p": p.copy()}
    optimiser = npattn.Adam(params, lr, (beta_1, beta_2), eps)
    optimiser.load_state_dict({"t": np.array(t - 1), "m.p": m, "v.p": v})
    optimiser.step({"p": g})
    state = optimiser.state_dict()
    return state["m.p"], state["v.p"], params["p"]


def rotary(X: Any, W_Q: Any, W_K: Any, W_V: Any, K_past: Any, V_past: Any) -> Any:
    theta = layers.rotary_frequencies(4, base=100.0).theta
    frequencies, past = layers.RotaryFrequencies(theta, 1.25), (K_past[None], V_past[None])
    return v9_rotary.forward(X, W_Q, W_K, W_V, np.eye(4), *past, n_heads=1, frequencies=frequencies)


def make_mask(ids: Any, pad_id: int) -> Any:
    return masks.causal_mask(ids.shape[1]) & masks.padding_mask(ids, pad_id=pad_id)[:, 0]


#: The functions of the package that compute what an exercise computes; a forward returns the output first.
OURS: dict[str, Any] = {
    "linear": layers.linear, "gelu": layers.gelu, "softmax": lambda E: (layers.softmax(E),),
    "mask": lambda E, mask: (layers.softmax(E, mask),), "cross_entropy": layers.cross_entropy,
    "layer_norm": layers.layer_norm, "embedding": layers.embedding, "dropout": layers.dropout, "heads": heads,
    "v7": lambda *args: v7_multi_head.forward(*args[:-1], n_heads=args[-1]), "residual": feed_forward,
    "pre_norm": two_norms, "decoder_layer": decoder_layer, "tie": tied, "adam": adam,
    "log_sum_exp": lambda Z: (np.log(np.exp(Z).sum(-1)),), "gate": lambda X, W: (X * np.tanh(X @ W),),
    "v9": rotary, "v10": lambda *args: dot_product.scaled_dot_product_attention(*args, grouped=True),
} | {f"v{n}": version.module.forward for n, version in enumerate(VERSIONS[:-1], 1)}  # fmt: skip


@each_exercise
def test_an_exercise_computes_what_the_package_computes(exercise: Exercise) -> None:
    theirs = run(exercise.solution)
    make = run(exercise.arguments)["arguments"]
    assert set(make(np.random.default_rng(0))) <= {"forward", "make_mask", "step"}
    for function, args in make(np.random.default_rng(0)).items():
        ours = {"make_mask": make_mask}.get(function, OURS[exercise.name])
        expected = ours(*make(np.random.default_rng(0))[function])
        got = theirs[function](*args)
        if function == "forward":
            got, expected = got[0], expected[0]               # without the caches
        for value, right in zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]:
            np.testing.assert_allclose(value, right, rtol=1e-10, atol=1e-13)


@each_exercise
def test_the_gradients_have_the_names_of_the_arguments(exercise: Exercise) -> None:
    """The checker's rows and the names are matched by their order."""
    defined = run(exercise.arguments)["arguments"](np.random.default_rng(0))
    if "forward" in defined:
        names = inspect.signature(run(exercise.solution)["forward"]).parameters
        arguments = zip(names, defined["forward"], strict=True)
        arrays = [name for name, value in arguments if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
        assert [f"d{name}" for name in arrays] == exercise.asked("forward")


def test_the_words_do_not_depend_on_how_the_code_is_written(check: Any) -> None:
    """The same mistake in other code: the row sum of the softmax left out, written with einsum."""
    code = read("v5").starter
    start = code.index("    dQ = ...")
    own = """
    through_softmax = np.einsum("id,nd->in", dY, V) * A / math.sqrt(len(Q[0]))
    grad_K = np.einsum("in,id->nd", through_softmax, Q)
    grad_V = np.einsum("in,id->nd", A, dY)
    return [through_softmax @ K, grad_V @ W_V.T + grad_K @ W_K.T, X.T @ grad_K, X.T @ grad_V]
"""
    result = check(read("v5"), code[:start] + own)
    (words,) = {row.words for row in result.rows if row.verdict == WRONG}
    assert words.startswith("the sum over the row is missing in dE")
    assert [row.name for row in result.rows if row.verdict == RIGHT] == ["dW_V"]


def test_a_mistake_that_is_not_on_the_sheet_gets_the_words_of_the_checker(check: Any) -> None:
    exercise = read("linear")
    result = check(exercise, change(exercise, "X.T @ dY", "2 * X.T @ dY"))
    assert [(row.name, row.verdict) for row in result.rows] == [("dX", RIGHT), ("dW", WRONG), ("db", RIGHT)]
    assert result.rows[1].words == "off by a factor of 2"
    assert re.fullmatch(r"at \[\d, \d\] it is -?[\d.]+, expected -?[\d.]+", result.rows[1].where)


def test_two_mistakes_at_once(check: Any) -> None:
    """Neither of them explains dX alone; dW_K has one of them only."""
    exercise = read("v6")
    code = change(exercise, " + dV @ W_V.T", "").replace("dK = dS.T @ Q", "dK = dS @ Q")
    words = {row.name: row.words for row in check(exercise, code).rows}
    values = "X is used three times: the gradient through the values is missing"
    transposed = "dE is not transposed in dK"
    assert words["dX"].startswith(f"{values}; and {transposed}") and words["dW_K"].startswith(transposed)
    assert words["dW_Q"] == words["dW_V"] == ""


def test_a_known_mistake_does_not_hide_a_small_one(check: Any) -> None:
    exercise = read("linear")
    code = change(exercise, "dX = dY @ W.T", "dX = dY @ W.T * (1 + 1e-9)").replace("X.T @ dY", "dY.T @ X")
    first, second, _ = check(exercise, code).rows
    assert first.words == "off by a factor of 1 + 1e-09" and second.words.startswith("this is the transpose")
    assert second.where == "its shape is (3, 4), expected (4, 3)"


def test_a_gradient_of_zero_may_be_exactly_zero(check: Any) -> None:
    """That of b_K is rounding noise in the solution."""
    exercise = read("v7")
    code = change(exercise, "    dW_V, db_V = ", "    db_K = np.zeros_like(db_K)\n    dW_V, db_V = ")
    assert check(exercise, code).verdict == RIGHT


def test_close_is_not_right(check: Any) -> None:
    """Neither in a gradient nor in what a step returns."""
    exercise = read("linear")
    for answer in ("(X.T @ dY).round(7)", "(X.T @ dY).astype(np.float32).astype(float)"):
        result = check(exercise, change(exercise, "X.T @ dY", answer))
        assert [row.verdict for row in result.rows] == [RIGHT, WRONG, RIGHT]
    adam = read("adam")
    for name in ("m", "v", "p"):
        code = adam.solved.replace("    return m, v, p", f"    {name} = {name} * (1 + 1e-8)\n    return m, v, p")
        rows = check(adam, code).rows
        assert [row.name for row in rows if row.verdict == WRONG] == [name]
        got, wanted = re.findall(r"-?\d\.\d{7,}", next(row.where for row in rows if row.where))
        assert got != wanted


def test_numbers_of_another_kind_do_not_stop_the_check(check: Any) -> None:
    exercise = read("linear")
    for kind, name in (("object", "object"), ("complex", "complex128")):
        result = check(exercise, change(exercise, "X.T @ dY", f"(X.T @ dY).astype({kind})"))
        assert [row.verdict for row in result.rows] == [RIGHT, WRONG, RIGHT]
        assert result.rows[1].where == f"its numbers are {name}, expected float64"


def test_where_a_value_differs() -> None:
    assert difference(np.array([0.5]), np.array([-0.0])) == "at [0] it is 0.5, expected 0"
    assert difference(np.array([0.5]), np.array([-3e-17])) == "at [0] it is 0.5, expected 0"
    assert difference(np.array([[True, False]]), np.array([[True, True]])) == "at [0, 1] it is False, expected True"
    assert difference(np.array([1.0, np.nan]), np.array([1.0, 2.0])) == "at [1] it is nan, expected 2"


def test_the_line_of_an_error_is_read_again(check: Any) -> None:
    exercise = read("linear")
    for name in ("U", "V"):
        (row,) = check(exercise, change(exercise, "dY @ W.T", f"dY @ {name}.T")).rows
        assert f"dX = dY @ {name}.T: NameError" in row.words


def test_a_mistake_of_no_kind(check: Any) -> None:
    exercise = read("linear")
    result = check(exercise, change(exercise, "dX = dY @ W.T", "dX = dY @ W.T * np.sin(X)"))
    assert "compare each of your lines with hint 2" in result.rows[0].words


#: A mistake on no sheet, and the line that is named. Names tell where forward calls the same value without the d.
FIRST_WRONG = {
    "the softmax": ("v5", "dE = A * (dA - (A * dA).sum(axis=-1, keepdims=True))", "dE = A * (dA - 2 * (A * dA).sum())"),
    "an earlier line": ("v6", "dV = A.T @ dY", "dV = A.T @ dY * 1.5"),
    "a whole layer": ("decoder_layer", "dX_1 = dX_2 + norm", "dX_1 = dX_2 - norm"),
    "one number": ("cross_entropy", "dZ = dZ * counted[:, None]", "dZ = dZ * (1 + counted[:, None])"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new"), FIRST_WRONG.values(), ids=FIRST_WRONG)
def test_the_first_wrong_line_is_named(name: str, old: str, new: str, check: Any) -> None:
    exercise = read(name)
    code = change(exercise, old, new)
    number = next(i for i, line in enumerate(code.splitlines(), 1) if new in line)
    assert check(exercise, code).line.startswith(f"line {number}, {new}")
    assert check(exercise, exercise.solved).line == ""


def test_the_first_wrong_line_beside_blanks_and_where_names_do_not_tell(check: Any) -> None:
    exercise = read("v5")
    code = change(exercise, "dA = dY @ V.T ", "dA = dY @ V.T * 3 ").replace("dW_V = X.T @ dV", "dW_V = ...")
    result = check(exercise, code)
    assert result.line.endswith("dA = dY @ V.T * 3") and result.rows[-1].verdict == BLANK
    for letter in "AVESK":
        code = code.replace(f"d{letter} ", f"grad_{letter} ").replace(f"d{letter}.", f"grad_{letter}.")
        code = code.replace(f"d{letter})", f"grad_{letter})")
    assert check(exercise, code.replace("dQ = ", "dQ = 0 + ")).line.partition(", ")[2].startswith("dQ = 0 + ")
    result = check(read("gelu"), change(read("gelu"), "dX = dY * (Phi", "dX = dY * (2 * Phi"))
    assert result.verdict == WRONG and result.line == ""      # its forward takes no complex numbers


@pytest.mark.parametrize("name", ["softmax", "v5", "v7"])
def test_a_sum_without_its_axis_is_explained(name: str, check: Any) -> None:
    """The arrays that have names fit; the wrong one has none."""
    exercise = read(name)
    (row,) = check(exercise, change(exercise, "(A * dA).sum(axis=-1, keepdims=True)", "(A * dA).sum(axis=-1)")).rows
    assert "a sum or mean along a row has lost its axis: keepdims=True" in row.words
    assert "NumPy says: ValueError: operands could not be broadcast together with shapes" in row.words
    (row,) = check(exercise, change(exercise, "(A * dA).sum(axis=-1, keepdims=True)", "(A * dA.T)")).rows
    assert "the shapes do not fit" in row.words and "keepdims" not in row.words.partition("the shapes do not fit")[2]


#: How many axes with letters of their own there are. Version 4 and the squares of others are left out: there the equal
#: lengths are the point.
AXES = {
    "linear": 3, "softmax": 2, "cross_entropy": 2, "layer_norm": 2, "embedding": 4, "v1": 4, "v2": 2, "v3": 2, "v5": 5,
    "v6": 4, "heads": 4, "v7": 7, "residual": 3, "decoder_layer": 5,
}  # fmt: skip


@pytest.mark.parametrize("name", AXES)
def test_no_two_axes_have_one_length(name: str) -> None:
    """Otherwise a sum over the wrong axis, or one that lost its axis, raises no error."""
    arrays = run(read(name).arguments)["arguments"](np.random.default_rng(0))["forward"]
    assert len({n for array in arrays for n in np.shape(array)}) == AXES[name]


def test_a_missing_cotangent_is_named(check: Any) -> None:
    exercise = read("cross_entropy")
    code = change(exercise, "dL * (P - Q)", "np.sin(P - Q)")
    assert check(exercise, code).rows[-1] == (
        "gradient of Z", WRONG, "with dL = 0 the gradient must be 0: dL belongs into each of its terms", ""
    )  # fmt: skip


def test_an_index_is_not_suspected_while_another_gradient_is_wrong(check: Any) -> None:
    exercise = read("tie")
    both = check(exercise, change(exercise, "1 - H * H", "2 - H * H"))
    assert [row.name for row in both.rows] == ["dW_E", "dW"] and "only the row" in both.rows[0].words
    assert "repeated index" not in both.rows[0].words
    alone = check(exercise, change(exercise, "np.add.at(dW_E, ids, dX)", "np.add.at(dW_E, ids, 1.5 * dX)"))
    assert "repeated index" in alone.rows[0].words


def test_the_rest_is_checked_while_there_are_blanks(check: Any) -> None:
    exercise = read("linear")
    result = check(exercise, change(exercise, "db = dY.sum(axis=0)", "db = ...").replace("X.T @ dY", "dY.T @ X"))
    assert [row.verdict for row in result.rows] == [RIGHT, WRONG, BLANK] and result.verdict == WRONG
    assert "transpose" in result.rows[1].words
    result = check(exercise, change(exercise, "db = dY.sum(axis=0)", "db = None"))
    assert [row.verdict for row in result.rows] == [RIGHT, RIGHT, BLANK] and result.verdict == BLANK


UNUSABLE = {
    "a syntax error": ("dX = dY @ W.T", "dX = dY @", r"invalid syntax \(linear.py, line 37\): dX = dY @"),
    "a null byte": ("dX = dY @ W.T", "\0", "null bytes"),
    "an import that fails": ("import numpy as np", "import nix as np", "line 23, import nix as np: ModuleNotFound"),
    "an end of the process": ("import numpy as np", "raise SystemExit", "line 23, .*: SystemExit"),
    "no backward": ("def backward", "def backwards", "there is no function backward"),
    "no function": ("def forward(X", "forward = 3\ndef forwards(X", "there is no function forward"),
    "shapes that do not fit": ("dY @ W.T", "dY @ W", r"the shapes do not fit; dY is \(5, 3\), W is \(4, 3\)"),
    "another error": ("dY @ W.T", "dY @ V.T", "line 37, .*: NameError: name 'V' is not defined$"),
    "an error of an index": ("dY @ W.T", "dY[7] @ W.T", r"IndexError: index 7 is out of bounds .*; dY is \(5, 3\)"),
    "not implemented": ("dX = dY @ W.T", "raise NotImplementedError", "line 37, .*: NotImplementedError"),
    "too few gradients": ("return dX, dW, db", "return dX, dW", r"expected 3 values \(dX, dW, db\), got 2"),
    "another forward": ("X @ W + b, (X, W)", "X @ W, (X, W)", "forward computes something else than at the beginning"),
    "three values": ("X @ W + b, (X, W)", "X @ W + b, X, W", "forward: expected to return the output and the cache"),
    "a name that is not there": ("forward(X, W, b)", "forward(X: Matrix, W, b)", "name 'Matrix' is not defined"),
    "no cache": ("X @ W + b, (X, W)", "X @ W + b", "forward: expected to return the output and the cache"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_that_cannot_be_checked_is_explained(old: str, new: str, words: str, check: Any) -> None:
    exercise = read("linear")
    result = check(exercise, change(exercise, old, new))
    (row,) = result.rows
    assert result.verdict == row.verdict == WRONG and row.name == ""
    assert re.search(words, row.words), row.words


WRONG_KINDS = {
    "a list": ("dW = X.T @ dY", "dW = (X.T @ dY).tolist()", "gradient of W", "expected an array, got list"),
    "a text": ("dW = X.T @ dY", "dW = 'a'", "dW", "its shape is (), expected (4, 3)"),
    "whole numbers": ("db = dY.sum(axis=0)", "db = dY.sum(axis=0).astype(int)", "db", "its numbers are int64"),
    "the wrong order": ("return dX, dW, db", "return dW, dX, db", "dX", "expected shape (5, 4), got (4, 3)"),
    "the cotangent changed": ("db = dY.sum(axis=0)", "db = dY.sum(axis=0); dY *= 2", "backward",
                              "changed the cotangent; `a += b` writes into the array that was given"),
    "an input changed": ("dX = dY @ W.T", "dX = dY @ W.T; W += 1e-9", "backward", "changed W; `a += b`"),
    "a slip of one in a billion": ("dX = dY @ W.T", "dX = dY @ W.T * (1 + 1e-9)", "dX", "off by a factor of 1 + 1e-09"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "name", "words"), WRONG_KINDS.values(), ids=WRONG_KINDS)
def test_right_numbers_in_a_wrong_way(old: str, new: str, name: str, words: str, check: Any) -> None:
    exercise = read("linear")
    result = check(exercise, change(exercise, old, new))
    assert result.verdict == WRONG
    (row,) = [row for row in result.rows if row.name == name]
    assert words in row.words + row.where and ("expected" not in words or "known here" not in row.words)
    assert not (row.words.startswith("expected shape") and row.where), row


def test_a_second_mask_is_found_although_it_is_drawn_at_random(check: Any) -> None:
    exercise = read("dropout")
    code = change(exercise, "dX = dY * keep", "dX = dY * (np.random.random(dY.shape) >= p)")
    result = check(exercise, code)
    assert result.rows[0].verdict == WRONG and result.rows[0].words == ""
    assert "a second call of backward gives other bits" in result.rows[-1].words


def test_foreign_code_leaves_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may import its neighbour, print, and set what it likes."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "my_own_helper.py").write_text("def transposed(A):\n    return A.T\n", encoding="utf-8")
    exercise = read("linear")
    imports = "import numpy as np\nfrom my_own_helper import transposed\nnp.seterr(all='raise')"
    code = change(exercise, "import numpy as np", imports)
    code = code.replace("X.T @ dY", "transposed(X) @ dY; print('dY is', dY.shape)")
    (tmp_path / "linear.py").write_text(code, encoding="utf-8")
    before = np.geterr(), list(sys.path), sys.dont_write_bytecode
    result = grade(exercise, tmp_path / "linear.py")
    assert result.verdict == RIGHT and result.printed == "dY is (5, 3)\n"
    assert (np.geterr(), list(sys.path), sys.dont_write_bytecode) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linear.py", "my_own_helper.py"]
    assert capsys.readouterr() == ("", "")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        grade(read("linear"), tmp_path / "linear.py")
