"""`npattn check`: a pair of the user's own, usage errors, and the table of the package in Markdown."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import npattn
from npattn.cli.check import cases, own_pair
from npattn.cli.check import command as check
from npattn.cli.terminal import UsageError
from support.command_line import Cli

LAYER = '''\
"""A user's module: right functions and a wrong one."""

import numpy as np

class Tanh:
    @staticmethod
    def forward(X):
        return np.tanh(X), np.tanh(X)

    @staticmethod
    def backward(dY, Y):
        return dY * (1 - Y * Y)

def linear(X, W, b=None, *, scale=1.0, mask=None):
    Y = scale * (X @ W)
    Y = Y if mask is None else Y * mask
    return (Y if b is None else Y + b), (X, W, b, scale, mask)

def linear_backward(dY, cache):
    X, W, b, scale, mask = cache
    dZ = scale * (dY if mask is None else dY * mask)
    return dZ @ W.T, X.T @ dZ, None if b is None else dY.sum(0)

def forgets_the_scale(dY, cache):
    X, W, b, scale, mask = cache
    return dY @ W.T, X.T @ dY, None if b is None else dY.sum(0)

def forward(ids, W_E):
    return W_E[ids], (ids, W_E.shape)

def backward(dY, cache):
    ids, shape = cache
    dW_E = np.zeros(shape, dY.dtype)
    np.add.at(dW_E, ids, dY)
    return dW_E

def make_args(rng):
    return rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), None

def make_named():
    return {"W": np.ones((4, 2)), "X": np.full((3, 4), 0.5), "scale": 3.0}

def make_several(rng):
    for n in (1, 2, 3):
        yield {"X": rng.normal(size=(n, 4)), "W": rng.normal(size=(4, n))}

def make_none():
    yield from ()

def make_a_number():
    return 3

not_a_function = 3
'''


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the user's module. It is the current folder."""
    (tmp_path / "mine.py").write_text(LAYER, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import numpy\nimport no_such_module_anywhere\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine", None)
    sys.modules.pop("broken", None)


# ---- a pair of the user's own --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["mine:linear", "mine:linear_backward", "--args", "X:3,4", "W:4,2", "b:2"], "X W b"),
        (["mine:linear", "--args", "X:3,4", "W:4,2"], "X W"),
        (["mine:linear", "--args", "b:2", "scale=-2.5", "W:4,2", "X:3,4"], "X W b"),
        (["mine:linear", "--args", "X:3,4", "W:4,2", "mask:3,2:bool"], "X W"),
        (["mine:linear", "--args", "X:3,4:float32", "W:4,2:float32"], "X W"),
        (["mine:linear", "--args", "mine:make_args", "--seed", "5"], "X W"),
        (["mine:linear", "--args", "mine:make_named", "--method", "central-difference"], "X W"),
        (["mine", "--args", "ids:2,3:0..4", "W_E:5,3"], "W_E"),
        (["mine:forward", "--args", "ids:2,3:0..4", "W_E:5,3"], "W_E"),
        (["mine:Tanh.forward", "mine:Tanh.backward", "--args", "X:"], "X"),
        (["mine.py:linear", "--args", "mine.py:make_args"], "X W"),
    ],
)
def test_a_right_pair(run: Cli, mine: Path, argv: list[str], names: str) -> None:
    status, out, err = run("check", *argv)
    assert (status, err) == (0, "")
    assert " right, largest error " in out.splitlines()[0]
    assert re.findall(r"^(\w+) .* (?:ok|zero)$", out, re.M) == names.split()


def test_a_wrong_pair_gives_the_report_and_status_1(run: Cli, mine: Path) -> None:
    argv = ["check", "mine:linear", "mine:forgets_the_scale", "--args", "X:3,4", "W:4,2", "b:2", "scale=0.5"]
    status, out, err = run(*argv)
    assert (status, err) == (1, "")
    assert out.startswith("mine.linear: not right for X, W\n") and "off by a factor of 2" in out
    assert run(*argv, "--rtol", "0.6").status == 0                  # |2g − g| / |2g| is 0.5


def test_every_set_of_arguments_from_a_generator_is_checked(run: Cli, mine: Path) -> None:
    status, out, _ = run("check", "mine:linear", "--args", "mine:make_several")
    assert status == 0 and out.count("largest error") == 3
    status, out, _ = run("check", "mine:linear", "mine:forgets_the_scale", "--args", "mine:make_several")
    assert status == 0                                              # the scale is 1 in all of them


def test_the_seed_draws_the_arguments(run: Cli, mine: Path) -> None:
    argv = ["check", "mine:linear", "--args", "X:3,4", "W:4,2"]
    assert run(*argv) == run(*argv, "--seed", "0")
    assert run(*argv) != run(*argv, "--seed", "1")


def test_keyword_only_arguments_are_listed_as_not_differentiated(run: Cli, mine: Path) -> None:
    status, out, _ = run("check", "mine:linear", "--args", "X:3,4", "W:4,2", "mask:3,2")
    assert status == 0
    assert out.splitlines()[-1] == "· not differentiated, because forward takes it by keyword only: mask"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["mine:linear"], "--args is missing"),
        (["nothere:f", "--args", "X:3"], "no module 'nothere' in ./ or among the installed packages"),
        (["nothere.py:f", "--args", "X:3"], "nothere.py: no such file"),
        (["mine:liner", "--args", "X:3"], "mine:liner: mine has no 'liner'"),
        (["mine:not_a_function", "mine:linear", "--args", "X:3"], "mine:not_a_function: expected a function, got int"),
        (["mine:make_args", "--args", "X:3"], "mine has no 'make_args_backward'"),
        (["mine:", "mine:linear", "--args", "X:3"], "expected module:function, got 'mine:'"),
        (["mine:linear"] * 3 + ["--args", "X:3"], "expected the names of forward and backward, got 3"),
        (["mine:linear", "--args", "X:3,,4"], "expected name:shape as in X:3,4 or name=value as in eps=1e-5"),
        (["mine:linear", "--args", "X:-3"], "expected name:shape"),
        (["mine:linear", "--args", "X:3:int8"], "expected name:shape"),
        (["mine:linear", "--args", "X:3", "mine:make_args"], "expected name:shape"),
        (["mine:linear", "--args", "X:3:5..2"], "expected a range from low to high"),
        (["mine:linear", "--args", "X:3,4", "W:4,2", "scale=false"], "scale: expected a Python literal"),
        (["mine:linear", "--args", "X:3,4", "W:4,2", "scale=1e"], "scale: expected a Python literal"),
        (["mine:linear", "--args", "X:3,4"], "missing a required argument: 'W'; forward takes (X, W, b=None, *,"),
        (["mine:linear", "--args", "X:3,4", "W:4,2", "V:3"], "got an unexpected keyword argument 'V'"),
        (["mine:linear", "--args", "mine:make_a_number"], "expected a tuple of arguments or a dict by name, got int"),
        (["mine:linear", "--args", "mine:make_none"], "mine:make_none: expected arguments, got none"),
        (["mine:linear", "--args", "X:3,4", "W:4,2", "--rtol", "0"], "--rtol: expected a number above 0"),
        (["mine:linear", "--args", "X:3,4", "W:4,2", "--markdown"], "--markdown is for the package"),
        (["--json", "--markdown"], "--json: expected without --markdown and --every-argument, which print no JSON"),
        (["--json", "--every-argument"], "--json: expected without --markdown"),
        (["--args", "X:3,4"], "--args needs a FUNCTION of your own"),
        (["--seed", "0"], "--seed needs a FUNCTION of your own"),
    ],
)  # fmt: skip
def test_usage_errors_are_one_line_and_status_2(run: Cli, mine: Path, argv: list[str], words: str) -> None:
    line = run.fails("check", *argv, status=2)
    assert words in line and line.endswith("(see npattn check --help)")


def test_an_argument_that_is_given_twice_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"^--args: X is given twice$"):
        list(own_pair.find_arguments(["X:3", "X:4"], lambda X: None, 0))


def test_what_is_wrong_after_layer_is_said_of_layer(run: Cli, mine: Path) -> None:
    options = ["check", "mine:linear", "--args", "X:3,4", "--layer"]
    for text, message in (
        ("n_in", "--layer: expected name:shape as in X:3,4 or name=value as in eps=1e-5, got 'n_in'"),
        ("n=1e", "--layer: n: expected a Python literal as in 1e-5, True or (0,1), got '1e'"),
        ("n:3:5..2", "--layer: expected a range from low to high as in 0..9, got 'n:3:5..2'"),
    ):
        assert message in run.fails(*options, text, status=2)
    assert "--layer: n is given twice" in run.fails(*options, "n=1", "m=2", "n=3", status=2)


def test_an_error_of_the_users_code_is_one_line_and_status_1(run: Cli, mine: Path) -> None:
    line = run.fails("check", "mine:linear", "--args", "X:3,4", "W:5,2")
    assert line.startswith("npattn: mine:linear: ValueError: matmul")
    assert "no_such_module_anywhere" in run.fails("check", "broken:f", "--args", "X:3")


def test_the_console_script_finds_a_module_in_the_current_folder(mine: Path) -> None:
    """The path of a console script does not have the current folder; that of `python -m` has it."""
    script = "import sys; sys.path = [p for p in sys.path if p]; from npattn.cli import main; sys.exit(main())"
    root = Path(npattn.__file__).parents[1]
    options = {"capture_output": True, "text": True, "cwd": mine, "env": os.environ | {"PYTHONPATH": str(root)}}
    command = [sys.executable, "-c", script, "check", "mine:linear"]
    right = subprocess.run([*command, "--args", "X:3,4", "W:4,2"], **options)
    assert (right.returncode, right.stderr) == (0, "") and "2 gradients right" in right.stdout
    wrong = subprocess.run([*command, "mine:forgets_the_scale", "--args", "mine:make_named"], **options)
    assert (wrong.returncode, wrong.stderr) == (1, "") and "off by a factor of 0.333333" in wrong.stdout


def test_a_positional_argument_behind_a_default_is_differentiated() -> None:
    """Python's `BoundArguments` alone would pass it by keyword, because b is missing."""
    assert own_pair.bind({"X": 1, "W": 2}, lambda X, b=None, W=None, *, axis=0: None).args == (1, None, 2)


def test_the_current_folder_is_searched_first(run: Cli, mine: Path) -> None:
    (mine / "pyclbr.py").write_text(LAYER, encoding="utf-8")        # in the standard library too, rarely imported
    imported = sys.modules.pop("pyclbr", None)
    try:
        assert run("check", "pyclbr:linear", "--args", "X:3,4", "W:4,2").status == 0
    finally:
        sys.modules.pop("pyclbr", None)
        sys.modules.update({"pyclbr": imported} if imported else {})


def test_random_arguments_have_the_shape_and_the_kind_of_their_text() -> None:
    rng = np.random.default_rng(0)
    name, ids = own_pair.read_argument("ids:200:2..4", rng)
    assert name == "ids" and set(ids.tolist()) == {2, 3, 4}
    assert own_pair.read_argument("mask:9:bool", rng)[1].dtype == bool
    assert own_pair.read_argument("s:", rng)[1].shape == ()
    assert own_pair.read_argument("X:0,3:float32", rng)[1].dtype == np.float32
    assert own_pair.read_argument("mode=same", rng) == ("mode", "same")


# ---- the package ----------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[cases.Case]:
    some = [case for case in cases.cases() if case.name in ("v7 multi-head attention", "linear", "embedding")]
    monkeypatch.setattr(check, "cases", lambda: some)
    return some


ROW = re.compile(r"^\| (\w[^|]*: [^|]+) \| ([\d,]+) \| (\S+) \| (\S+) \|$", re.M)


def test_json_is_an_object_for_each_report(run: Cli, few: list[cases.Case]) -> None:
    status, out, err = run("check", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert [(each["name"], each["method"]) for each in found] == [
        (case.name, method) for case in few for method in check.METHODS]  # fmt: skip
    first = check.check(few[0], method="complex-step")
    assert found[0]["ok"] is True and found[0]["max_error"] == first.max_error and found[0]["title"] == first.title
    assert [each["name"] for each in found[0]["arguments"]] == [each.name for each in first.arguments]
    assert [each["verdict"] for each in found[0]["arguments"]] == [each.verdict for each in first.arguments]


def test_json_of_ones_own_functions(run: Cli, mine: Path) -> None:
    argv = ("--args", "X:3,4", "W:4,2", "scale=2.0", "--json")
    status, out, err = run("check", "mine:linear", *argv)
    found = json.loads(out)
    assert (status, err, found["ok"]) == (0, "", True) and found["name"] == "mine:linear"
    status, out, _ = run("check", "mine:linear", "mine:forgets_the_scale", *argv)
    found = json.loads(out)
    assert status == 1 and found["ok"] is False and found["arguments"][0]["hint"].startswith("off by a factor of 0.5")


def test_json_has_no_infinity() -> None:
    assert check.without_infinity({"a": (1.5, math.inf, [math.nan, "inf", None, True, 3])}) == {
        "a": [1.5, None, [None, "inf", None, True, 3]]}  # fmt: skip


def test_markdown_is_one_table(run: Cli, few: list[cases.Case]) -> None:
    status, out, err = run("check", "--markdown")
    assert (status, err) == (0, "")
    head, rule, *rows = out.splitlines()
    assert head == "| backward | numbers | complex step | central differences |" and set(rule) == set("|-:")
    assert [ROW.fullmatch(row)[1] for row in rows] == [f"{case.group}: {case.name}" for case in few]
    assert all(head.count("|") == row.count("|") for row in rows)


def test_markdown_marks_a_wrong_gradient(run: Cli, few: list[cases.Case]) -> None:
    right = few[2].backward
    few[2] = few[2]._replace(backward=lambda dY, cache: 1.01 * right(dY, cache))
    status, out, _ = run("check", "--markdown")
    assert status == 1 and "**wrong**" in out


def test_every_argument_prints_a_table_below_each_line(run: Cli, few: list[cases.Case]) -> None:
    _, out, _ = run("check", "--every-argument")
    assert len(re.findall(r"^W_Q +complex", out, re.M)) == len(re.findall(r"^W_Q +central", out, re.M)) == 1


def test_parameters_of_the_transformer_are_checked_by_name() -> None:
    case = next(case for case in cases.cases() if case.name == "pre-norm")
    report = check.check(case, method="complex-step")
    names = {argument.name for argument in report.arguments}
    assert names == {f"params['{name}']" for name in case.options["config"].shapes()}
    zero = {argument.name for argument in report.arguments if argument.verdict == "zero"}
    assert report.ok and zero == {name for name in names if name.endswith("b_K']")}


@pytest.mark.long
def test_the_table_of_the_documentation_is_the_output_of_the_command() -> None:
    """The rows are the same, in the same order. The table gives powers of ten: the digits depend on the processor."""
    table = Path(__file__).parents[1] / "README.md"
    rows = ROW.findall(table.read_text(encoding="utf-8"))
    everything = cases.cases()
    assert [name for name, *_ in rows] == [f"{case.group}: {case.name}" for case in everything]
    for (name, numbers, exact, central), case in zip(rows, everything, strict=True):
        row = check.Row(case, (check.check(case, method="complex-step"),))
        assert f"{row.numbers:,}" == numbers, name
        assert row.reports[0].max_error <= 10 * float(exact) + 1e-15, name
        assert float(exact) <= 1e-12 and float(central) <= 1e-7, name



# ---- layer objects, one version, and errors of the user's code ------------------------------------------------

DENSE = '''
import numpy as np

class Dense:
    def __init__(self, n_in, n_out, slip=1.0):
        self.W, self.slip = np.ones((n_in, n_out)), slip

    def forward(self, X):
        self.X = X
        return np.tanh(X @ self.W)

    def backward(self, dY):
        dZ = dY * (1 - np.tanh(self.X @ self.W) ** 2)
        self.dW = self.slip * self.X.T @ dZ
        return dZ @ self.W.T

def masked(X, mask):
    return np.where(~mask, X, 0), mask

def masked_backward(dY, mask):
    return dY * ~mask
'''


@pytest.fixture
def dense(mine: Path) -> Iterator[None]:
    (mine / "dense.py").write_text(DENSE, encoding="utf-8")
    yield
    sys.modules.pop("dense", None)


def test_a_layer_object(run: Cli, dense: None) -> None:
    status, out, err = run("check", "dense:Dense", "--layer", "n_in=4", "n_out=3", "--args", "X:5,4")
    assert (status, err) == (0, "") and out.startswith("Dense: 2 gradients right")
    assert "· W: its gradient is dW" in out
    status, out, _ = run("check", "dense:Dense", "--layer", "n_in=4", "n_out=3", "slip=1.01", "--args", "X:5,4")
    assert status == 1 and "Dense: not right for W" in out
    status, _, err = run("check", "dense:Dense", "dense:Dense", "--layer", "--args", "X:5,4")
    assert status != 0 and "--layer: expected one class" in err


def test_one_version_of_the_package(run: Cli) -> None:
    status, out, _ = run("check", "v5")
    assert status == 0 and "2 cases" in out and "v5 cross-attention" in out and "v4" not in out
    status, _, err = run("check", "v5", "--args", "X:3")
    assert status != 0 and "--args needs a FUNCTION of your own" in err


def test_an_error_of_forward_shows_the_arguments(run: Cli, dense: None) -> None:
    argv = ["check", "dense:masked", "--args", "X:5,4", "mask:5,4"]
    status, _, err = run(*argv)
    assert status == 1 and "the arguments were X (5, 4) float64, mask (5, 4) float64" in err
    assert "for booleans write mask:5,4:bool" in err
    assert run(*argv[:-1], "mask:5,4:bool").status == 0


def test_json_of_a_layer_object(run: Cli, dense: None) -> None:
    status, out, _ = run("check", "dense:Dense", "--layer", "n_in=4", "n_out=3", "--args", "X:5,4", "--json")
    assert status == 0 and json.loads(out)["name"] == "dense:Dense"
