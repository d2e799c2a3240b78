"""Run functions from their own source, and record what each name holds after each statement.

The source of a function is parsed, a call of the recorder is added behind every statement, and the result is compiled
with the file and the line numbers of the source. So what is recorded is what the function computes. Loops and branches
need no care, and an error points to the user's own line. Called functions stay whole, unless they are traced too.

Another run can add to what a name holds at one point. The complex step differentiates by intermediate numbers so.
"""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.trees import floating_leaves

#: How a name gets what it holds: as an argument; by an assignment; by a statement that adds to it; by one that changes
#: it otherwise, as `dE /= 2`; by one that fills it, an assignment to some of its entries or a call that writes into it.
#: What is returned may have no name.
ARGUMENT, NEW, ADDED, CHANGED, FILLED, RETURNED = "argument", "new", "added", "changed", "filled", "returned"

#: The name of the added calls.
AFTER = "__after_statement__"

#: The name of the function around a traced one.
OUTER = "__outer__"


class Line(NamedTuple):
    """A statement: the function it is in, the number of its first line in the file, its code and its comment."""

    function: str
    number: int
    code: str
    comment: str


class Step(NamedTuple):
    """What a name held after a statement.

    - path: the part of the model that the function computes, as in encoder.0.self_attention; empty for the whole.
    - name, array: the name, and a copy of what it held.
    - line: the statement; None for an argument.
    - how: argument, new, added, changed, filled, or returned for an array without a name.
    - place: a number of this point of the run, at which another run can add to the array.
    """

    path: str
    name: str
    array: Array
    line: Line | None
    how: str
    place: int


class Call:
    """One call of a traced function, with the steps that it took."""

    def __init__(self, function: FunctionType, path: str, args: Sequence[Any], parent: Call | None) -> None:
        self.function, self.path, self.args, self.parent = function, path, args, parent
        self.steps: list[Step] = []
        self.result: Any = None

    def is_backward_of(self, other: Call) -> bool:
        """Whether it has the name of the backward of the other, and got the cache of the other."""
        name, cache = other.function.__name__, other.result[-1] if isinstance(other.result, tuple) else other.result
        wanted = "backward" if name == "forward" else f"{name}_backward"
        is_given = cache is not None and any(argument is cache for argument in self.args)
        return is_given and self.function.__name__ == wanted

    def has_changed(self, name: str, array: Any) -> bool:
        before = next((step.array for step in reversed(self.steps) if step.name == name), array)
        return not np.array_equal(before, array, equal_nan=array.dtype.kind in "fc")

    def is_inside(self, other: Call) -> bool:
        return self.parent is not None and (self.parent is other or self.parent.is_inside(other))


class Recorder:
    """Runs functions and records their steps.

    - inside: the functions that are traced where a traced function calls them.

    `names` has the dotted name of each parameter by its `id`. What those of a call's parameters share is its path.
    """

    def __init__(self, inside: Sequence[FunctionType]) -> None:
        self.inside = inside
        self.names: dict[int, str] = {}
        self.calls: list[Call] = []                           # in the order in which they began
        self._lines: list[Line] = []
        self._active: list[Call] = []
        self._compiled: dict[FunctionType, Callable[..., Any]] = {}
        self._place, self._moves, self._is_recording = 0, dict[int, Array](), True

    def prepare(self, moves: Mapping[int, Array]) -> None:
        """Let the next run begin anew, record nothing, and add an array to what is held at each of these places."""
        self._place, self._moves, self._is_recording = 0, dict(moves), False

    def traced(self, function: FunctionType) -> Callable[..., Any]:
        """Return a function that computes the same and is recorded. It is compiled when it is first called."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            if function not in self._compiled:
                self._compiled[function] = self._compile(function)
            parent = self._active[-1] if self._active else None
            call = Call(function, self._path(function, args, parent), args, parent)
            self.calls += [call] * self._is_recording
            self._active.append(call)
            try:
                call.result = self._compiled[function](*args, **kwargs)
                return call.result
            finally:
                self._active.pop()

        return run

    def _path(self, function: FunctionType, args: Sequence[Any], parent: Call | None) -> str:
        """Return what the names of the parameters among the arguments share, or else the name of the function."""
        for suffix, array in (leaf for argument in args for leaf in floating_leaves(argument)):
            name = self.names.get(id(array), "")
            own = dotted(suffix) or f".{name.rpartition('.')[2]}"
            if name.endswith(own):
                return name.removesuffix(own)
        return "" if parent is None else f"{parent.path}.{function.__name__}".lstrip(".")

    def _after(self, line: int, how: str, name: str, value: Any) -> Any:
        """Record what a name holds, and return what it is to hold."""
        self._place += 1
        if self._place in self._moves:
            return moved(value, self._moves[self._place], how)
        array = value[0] if how == RETURNED and isinstance(value, tuple) and value else value
        if self._is_recording and isinstance(array, np.ndarray | np.generic):
            call, made_by = self._active[-1], None if how == ARGUMENT else self._lines[line]
            if how != FILLED or call.has_changed(name, array):
                call.steps.append(Step(call.path, name, np.array(array), made_by, how, self._place))
        return value

    def _compile(self, function: FunctionType) -> Callable[..., Any]:
        """Return the function with a call of `_after` behind each of its statements.

        It has the globals and the closure of the original, so it sees every change of them. What is put in place of
        other names are variables of a function around it.
        """
        definition, source = parsed(function)
        definition.decorator_list = []
        definition.args.defaults = [ast.Constant(None) for _ in definition.args.defaults]
        definition.args.kw_defaults = [default and ast.Constant(None) for default in definition.args.kw_defaults]
        Instrument(function, source, self._lines).instrument(definition)
        code, new = function.__code__, self._replaced(function) | {AFTER: self._after}
        definition.name = OUTER                               # a recursive call means the function itself
        around = ast.parse(f"def {OUTER}({', '.join({*new, *code.co_freevars})}): return {OUTER}").body[0]
        assert isinstance(around, ast.FunctionDef)
        tree = ast.increment_lineno(ast.Module([around], []), code.co_firstlineno - 1)
        around.body.insert(0, ast.increment_lineno(definition, code.co_firstlineno - 1))
        flags, space = __future__.annotations.compiler_flag, dict[str, Any]()   # annotations are not evaluated
        compiled = compile(ast.fix_missing_locations(tree), code.co_filename, "exec", flags, True)
        exec(compiled, function.__globals__, space)
        inner = space[OUTER](**dict.fromkeys(code.co_freevars) | new)
        cells = dict(zip(inner.__code__.co_freevars, inner.__closure__, strict=True))
        old = zip(code.co_freevars, function.__closure__ or (), strict=True)
        cells |= {name: cell for name, cell in old if name in cells.keys() - new.keys()}
        closure = tuple(cells.values())                       # in the order of co_freevars
        own = inner.__code__.replace(co_name=code.co_name)
        made = FunctionType(own, function.__globals__, code.co_name, function.__defaults__, closure)
        made.__kwdefaults__, made.__qualname__ = function.__kwdefaults__, function.__qualname__
        return made

    def _replaced(self, function: FunctionType) -> dict[str, Any]:
        """Return what a function finds under other names than its own: traced functions in place of those inside."""
        found: dict[str, Any] = {}
        for name, value in (function.__globals__ | dict(inspect.getclosurevars(function).nonlocals)).items():
            if isinstance(value, ModuleType):
                inner = {f.__name__: self.traced(f) for f in self.inside if leads_to(vars(value).get(f.__name__), f)}
                found |= {name: SimpleNamespace(**vars(value) | inner)} if inner else {}
            traced = [self.traced(f) for f in self.inside if leads_to(value, f)]
            found |= {name: traced[0]} if traced else {}
        return found


class Instrument(ast.NodeTransformer):
    """Adds a call of `Recorder._after` behind each statement of a function, but not of functions defined in it."""

    def __init__(self, function: FunctionType, source: str, lines: list[Line]) -> None:
        self.code, self.lines = function.__code__, lines
        self.rows = [row.encode() for row in source.split("\n")]       # columns count bytes

    def instrument(self, definition: ast.FunctionDef) -> None:
        self.generic_visit(definition)
        arguments = self.code.co_varnames[: self.code.co_argcount + self.code.co_kwonlyargcount]
        definition.body[:0] = [self.after(definition, ARGUMENT, name) for name in arguments]

    def visit(self, node: Any) -> Any:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            return node
        self.generic_visit(node)
        if isinstance(node, ast.Return) and node.value is not None:
            node.value = self.call(node, RETURNED, "", node.value)
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr) or node.value is None:
            return node
        targets = getattr(node, "targets", None) or [getattr(node, "target", node)]
        names = [each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
        stored = dict.fromkeys(each.id for each in names if isinstance(each.ctx, ast.Store))
        filled = {each.id for each in names} - stored.keys()  # the Y of Y[i] = …, and what a call gets
        own = {*self.code.co_varnames, *self.code.co_cellvars}
        local = own | {*self.code.co_freevars} if not isinstance(node, ast.Expr) else set()   # without globals
        added = [self.after(node, how_of(node), name) for name in stored if name in local]
        return [node, *added, *(self.after(node, FILLED, name) for name in sorted(filled & own))]

    def after(self, node: ast.stmt, how: str, name: str) -> ast.stmt:
        """Return a statement that records a name."""
        value = ast.parse(f"locals().get({name!r})", mode="eval").body     # it may be unbound
        call = self.call(node, how, name, value)
        return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], call), node)

    def call(self, node: ast.stmt, how: str, name: str, value: ast.expr) -> ast.expr:
        constants = [ast.Constant(each) for each in (len(self.lines), how, name)]
        self.lines.append(self.line_of(node))
        return ast.copy_location(ast.Call(ast.Name(AFTER, ast.Load()), [*constants, value], []), node)

    def line_of(self, node: ast.stmt) -> Line:
        """Return the statement as it stands in the source, on one line, and the comment behind it."""
        *before, last = self.rows[node.lineno - 1 : node.end_lineno]
        code = b"\n".join([*before, last[: node.end_col_offset]])[node.col_offset :].decode()
        comment = last[node.end_col_offset :].decode().partition("#")[2].strip()
        return Line(self.code.co_name, self.code.co_firstlineno + node.lineno - 1, " ".join(code.split()), comment)


def how_of(node: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr) -> str:
    """Return how an assignment changes its name. X = X + … adds, as X += … does."""
    if isinstance(node, ast.AugAssign):
        return ADDED if isinstance(node.op, ast.Add) else CHANGED
    target = ast.unparse(getattr(node, "targets", [node])[0])
    terms = [node.value.left, node.value.right] if isinstance(node.value, ast.BinOp) else []
    is_sum = isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.Add)
    return ADDED if is_sum and target in map(ast.unparse, terms) else NEW


def parsed(function: FunctionType) -> tuple[ast.FunctionDef, str]:
    """Return the definition of a function and its source. Raises ValueError if there is none, as for a lambda."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
        definition = ast.parse(source).body[0]
    except (OSError, SyntaxError, IndexError):
        source, definition = "", None
    if not isinstance(definition, ast.FunctionDef) or definition.name != function.__name__:
        raise ValueError(f"pair: expected functions whose source can be read, got {function.__qualname__}")
    return definition, source


def returned_names(function: FunctionType) -> set[str]:
    """Return the names that a function returns, alone or in a tuple."""
    found = [node.value for node in ast.walk(parsed(function)[0]) if isinstance(node, ast.Return)]
    parts = [part for value in found for part in (value.elts if isinstance(value, ast.Tuple) else [value])]
    return {part.id for part in parts if isinstance(part, ast.Name)}


def leads_to(value: Any, function: FunctionType) -> bool:
    return callable(value) and inspect.unwrap(value) is function


def moved(value: Any, move: Array, how: str) -> Any:
    """Return value + move; of what is returned, the first array is moved."""
    if how in (ADDED, CHANGED, FILLED):                       # in place, since other names may hold the same array
        value += move
        return value
    is_tuple = how == RETURNED and isinstance(value, tuple)
    return (value[0] + move, *value[1:]) if is_tuple else value + move


def dotted(name: str) -> str:
    """Write the name of a leaf with dots for the keys of mappings.

    >>> dotted("p['self_attention']['W_Q']"), dotted("layers[0].gamma")
    ('p.self_attention.W_Q', 'layers[0].gamma')
    """
    return re.sub(r"\['([^']*)'\]", r".\1", name)
