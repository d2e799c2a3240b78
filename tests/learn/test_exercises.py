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
from npattn.attention import VERSIONS, masks, v7_multi_head
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
    assert {(row.verdict, row.words) for row in wrong} == {(WRONG, mistake.words)}


@each_exercise
def test_a_sheet_is_complete(exercise: Exercise) -> None:
    assert len(exercise.hints) == 3 and all(len(hint) > 40 for hint in exercise.hints)
    assert len(exercise.mistakes) >= 5
    foundations = (SHEETS.parents[1] / "pages" / "foundations.md").read_text(encoding="utf-8")
    assert exercise.sections and all(re.search(rf"^## .*\b{name}\. ", foundations, re.M) for name in exercise.sections)
    assert max(width(line) for line in exercise.solved.splitlines()) <= 88
    text = (SHEETS / f"{exercise.name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {exercise.name}: ")
    assert len(exercise.mistakes) == text.partition("## Mistakes")[2].count("\n- ")
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
    return params["p"], state["m.p"], state["v.p"]


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
    assert words.startswith("the sum in the backward of the softmax is missing")
    assert [row.name for row in result.rows if row.verdict == RIGHT] == ["dW_V"]


def test_a_mistake_that_is_not_on_the_sheet_gets_the_words_of_the_checker(check: Any) -> None:
    exercise = read("linear")
    result = check(exercise, change(exercise, "X.T @ dY", "2 * X.T @ dY"))
    assert [(row.name, row.verdict) for row in result.rows] == [("dX", RIGHT), ("dW", WRONG), ("db", RIGHT)]
    assert result.rows[1].words == "off by a factor of 2"
    assert re.fullmatch(r"at \[\d, \d\] it is -?[\d.]+, expected -?[\d.]+", result.rows[1].where)


def test_two_mistakes_at_once(check: Any) -> None:
    """Neither of them explains dX alone; dW_K has one of them only."""
    exercise = read("v5")
    code = change(exercise, "dX = dV @ W_V.T + dK @ W_K.T", "dX = dK @ W_K.T").replace("dK = dS.T @ Q", "dK = dS @ Q")
    words = {row.name: row.words for row in check(exercise, code).rows}
    values, transposed = "X is used twice: the gradient through the values is missing", "dE is not transposed: dK_nd"
    assert words["dX"].startswith(f"{values}; and {transposed}") and words["dW_K"].startswith(transposed)
    assert words["dQ"] == words["dW_V"] == ""


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


def test_where_a_value_differs() -> None:
    assert difference(np.array([0.5]), np.array([-0.0])) == "at [0] it is 0.5, expected 0"
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
    assert "compare it with hint 2" in result.rows[0].words


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
