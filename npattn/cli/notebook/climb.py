"""The cells of the climb: foundations, then each layer and version in the reading order of npattn/README.md.

Nothing is written a second time here: the text comes from docstrings and pages, the code from the source, and the
exercises from their sheets.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from npattn.cli.explain import pages, topics
from npattn.cli.explain.topics import Topic
from npattn.cli.notebook.words import CHECK, FIRST_CODE, INTRODUCTION, PICTURES, TRACE, TRAINED, TRAINED_CODE
from npattn.cli.trace.example import is_pair
from npattn.learn.exercises import NAMES, Exercise, read
from npattn.learn.exercises.sheet import MARK
from npattn.learn.notebook import Cell, blocks_in_latex, code, markdown, prose_in_latex
from npattn.training import trainer

WIDTH = 100
LADDER = [version.module for version in topics.LADDER]


class Part(NamedTuple):
    """Some sections under one heading; the names of several topics in one section are joined by `+`."""

    title: str
    title_zh: str
    sections: tuple[str, ...]


PARTS = (
    Part("Two layers that everything uses", "处处要用的两个层", ("linear", "softmax")),
    Part("The seven versions of attention", "注意力的七个版本", ("v1", "v2", "v3", "v4", "v5", "v6", "v7")),
    Part("What a model needs besides", "模型还需要什么",
         ("causal_mask+padding_mask", "layer_norm", "positions", "embedding", "cross_entropy", "relu", "gelu",
          "dropout")),
    Part("The whole model", "整个模型", ("transformer",)),
    Part("From gradients to a trained model", "从梯度到训练好的模型", ("adam", "trainer")),
    Part("The attention of today's models", "今天的模型的注意力",
         ("v8", "rotary", "v9", "v10", "v11", "rms_norm", "soft_cap", "v12", "v13", "l2_norm", "causal_convolution",
          "gated_rms_norm", "v14", "silu", "swiglu+geglu", "mixture_of_experts+route")),
)  # fmt: skip

#: Exercises that have not the name of a section: the section that they follow.
EXERCISES = {
    "gate": "linear", "log_sum_exp": "linear", "mask": "softmax", "heads": "v6", "residual": "transformer",
    "pre_norm": "transformer", "decoder_layer": "transformer", "tie": "transformer",
}  # fmt: skip


def climb(language: str = "en") -> list[Cell]:
    """Return the cells of the whole climb; `language` is that of the foundations and of the introduction."""
    cells = [markdown(INTRODUCTION[language]), markdown(contents(language)), code(FIRST_CODE)]
    cells += foundations(language)
    for number, part in enumerate(PARTS, 1):
        cells.append(markdown(f"# {number}. {part.title_zh if language == 'zh' else part.title}"))
        for name in part.sections:
            cells += training() if name == "trainer" else section(name)
            exercises = [each for each in NAMES if EXERCISES.get(each, each) in name.split("+")]
            for each in exercises:
                cells += exercise(read(each))
    return cells


def contents(language: str) -> str:
    """Return the list of all sections, with links."""
    lines = [f"[{pages.titles(language)['foundations']}](#foundations)", ""]
    for number, part in enumerate(PARTS, 1):
        links = ", ".join(f"[{heading(name)}](#{anchor(name)})" for name in part.sections)
        lines.append(f"{number}. {part.title_zh if language == 'zh' else part.title}: {links}")
    return "\n".join(lines)


def heading(name: str) -> str:
    """Return the heading of a section: `Version 5, cross-attention` or `Layer norm`."""
    if name.startswith("v") and name[1:].isdigit():
        version = next(each for each in topics.LADDER if each.number == int(name[1:]))
        return f"Version {version.number}, {version.name}"
    text = " and ".join(name.split("+")).replace("_", " ").replace("mask and padding", "and padding")
    return text[0].upper() + text[1:]


def anchor(name: str) -> str:
    """Return the name that links to a section have."""
    return "section-" + name.replace("+", "-")


def foundations(language: str) -> Iterator[Cell]:
    """Yield the page of foundations; its examples are cells of code."""
    text = pages.markdown("foundations", language)
    text = re.sub(r"^.*(?:English|中文).*\| .*\n\n", "", text, count=1, flags=re.M)
    text = re.sub(r"\[([^\]]*)\]\((?!#)[^)]*\)", r"\1", text)    # links to files of the package
    text = text.replace("# ", '# <a id="foundations"></a>', 1)
    for part in re.split(r"^(?=## )", text, flags=re.M):
        yield from text_and_examples(re.sub(r"^```\w*\n", "", part, flags=re.M))


def text_and_examples(text: str) -> Iterator[Cell]:
    """Yield the cells of a text with doctests in it: each cell of code ends at the first line that has a result."""
    waiting = ""
    for piece in doctest.DocTestParser().parse(text):
        if isinstance(piece, doctest.Example):
            waiting += piece.source
            if piece.want:
                yield code(waiting)
                waiting = ""
        elif piece.strip():
            if waiting:
                yield code(waiting)
                waiting = ""
            yield markdown(blocks_in_latex(linked(piece.strip("\n"))))
    if waiting:
        yield code(waiting)


def linked(text: str) -> str:
    """Return a text in which the sections of foundations are links."""
    reference = re.compile(r"(?<!explain )\bfoundations\s+(F\d+)")
    return reference.sub(lambda found: f"[foundations {found[1]}](#{found[1].lower()})", text)


def section(name: str) -> Iterator[Cell]:
    """Yield the section of one or more topics that share a module."""
    found = [topics.topics()[each] for each in name.split("+")]
    topic = found[0]._replace(members=tuple(dict.fromkeys(member for each in found for member in each.members)))
    members = iter(topic.members)
    opening = f'## <a id="{anchor(name)}"></a>{heading(name)}'
    for title, text in topics.sections(topic):
        if title in topics.EXAMPLES:
            yield from functions(members, topic)
            yield markdown(f"**{title}**")
            yield from text_and_examples(text)
            continue
        bold = f"**{title}**" + ("\n\n" if text.startswith(" ") else "  ") if title else ""
        shapes = str(getattr(topic.module, "SHAPES", "")) if title == "Forward" else ""
        yield markdown(opening, blocks_in_latex(linked(bold + text)), f"**Shapes**  `{shapes}`" * bool(shapes))
        if not title:
            yield code(imports(topic))
        if title in ("Forward", "Backward"):
            yield from functions([next(members)], topic)
        opening = ""
    if called := [f"- `{function}`: {prose_in_latex(text)}" for function, text in topics.called(topic)]:
        yield markdown("**Called above**", "\n".join(called))
    if name in PICTURES:
        yield code(PICTURES[name])
    for each in found:
        if is_pair(each):
            yield from numbers(each)


def functions(members: Iterable[Callable[..., Any]], topic: Topic) -> Iterator[Cell]:
    """Yield the docstring and the code of each function; the code of a class is not shown."""
    for member in members:
        words = topics.docstring_of(member).partition("\n>>>")[0]
        yield markdown(f"**`{member.__name__}`**", blocks_in_latex(linked(words)))
        if source := topics.code_of(member):
            yield code(source) if is_defined(member) else markdown(f"```python\n{source}\n```")


def is_defined(member: Callable[..., Any]) -> bool:
    """Whether a cell defines a function: not a method, nor what only a method calls."""
    return inspect.isfunction(member) and "." not in member.__qualname__ and not member.__name__.startswith("_")


def imports(topic: Topic) -> str:
    """Return the lines that import what the cells and the examples of a topic use and no cell defines."""
    cells = [member for member in topic.members if is_defined(member)]
    sources = {topic.module: [each.source for each in examples(topic)]}
    for member in cells:                                      # a cell can be from a neighbouring module
        sources.setdefault(sys.modules[member.__module__], []).append(topics.code_of(member))
    known, lines = {"np", *(member.__name__ for member in cells)}, list[str]()
    for module, texts in sources.items():
        used = {node.id for text in texts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        names = sorted(used & vars(module).keys() - known)
        modules = {name: value for name in names if isinstance(value := getattr(module, name), ModuleType)}
        lines += [import_line(value) for value in modules.values()]
        lines += [import_line(module)] * (module is topic.module and module in LADDER)
        typed = [name for name in names if hasattr(typing, name)]
        others = [name for name in names if name not in [*typed, *modules]]
        for path, found in (("typing", typed), (module.__name__, others)):
            lines += [f"from {path} import {', '.join(found)}"] * bool(found)
        known.update(names)
    return "\n".join(map(broken, lines))


def import_line(module: ModuleType) -> str:
    package, _, name = module.__name__.rpartition(".")
    return f"from {package} import {name}" if package else f"import {name}"


def broken(line: str) -> str:
    """Break a long line of imports."""
    if len(line) <= WIDTH:
        return line
    start, _, names = line.partition(" import ")
    return f"{start} import (\n{textwrap.fill(names, WIDTH, initial_indent='    ', subsequent_indent='    ')},\n)"


def examples(topic: Topic) -> list[doctest.Example]:
    """Return the examples in the docstring of a topic's module."""
    return doctest.DocTestParser().get_examples(topics.docstring_of(topic.module))


def numbers(topic: Topic) -> Iterator[Cell]:
    """Yield the trace of a topic's example, its picture, and the gradient check."""
    forward, backward = topic.members
    call, is_alone = next(calls(topic, forward.__name__))
    given = next(calls(topic, backward.__name__), None)
    args, options = arguments(call, forward)
    pair, name = f"(npattn.layers.{forward.__name__}, npattn.layers.{backward.__name__})", forward.__name__
    if topic.module in LADDER:
        pair = topic.module.__name__.rpartition(".")[2]
        name = pair.partition("_")[0]
    dY = ast.unparse(given[0].args[0]) if given else "None"
    lines = [f"args = ({', '.join(args)}{',' * (len(args) == 1)})"]
    lines += [f"options = dict({', '.join(options)})"] * bool(options)
    more = ", options" * bool(options)
    yield markdown(TRACE.format(name=name))
    yield code("\n".join([*lines, f"found = npattn.trace({pair}, args, {dY}{more})", "print(found)"]))
    yield code("draw(found)")
    yield markdown(CHECK)
    own = forward.__name__
    if is_alone:                                              # no cache beside it: the output is what backward needs
        own = f"lambda *args: ({own}(*args),) * 2"
    yield code(f"print(npattn.check_gradients({own}, {backward.__name__}, at_random(args){more}))")


def calls(topic: Topic, name: str) -> Iterator[tuple[ast.Call, bool]]:
    """Yield the calls of a function in the examples of a topic, and whether its result gets a single name."""
    for example in examples(topic):
        for statement in ast.parse(example.source).body:
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                    yield node, isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)


def arguments(call: ast.Call, function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Return the code of the positional arguments, which may have gradients, and that of the others."""
    parameters = list(inspect.signature(function).parameters.values())
    given = {parameter.name: ast.unparse(each) for parameter, each in zip(parameters, call.args, strict=False)}
    unpacked = [f"**{ast.unparse(keyword.value)}" for keyword in call.keywords if keyword.arg is None]
    given |= {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg}
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    fixed = [place for place, p in enumerate(positional) if "Frequencies" in str(p.annotation)]
    positional = positional[: min(fixed, default=None)]
    last = max(place for place, p in enumerate(positional) if p.name in given)
    args = [given.pop(p.name, repr(p.default)) for p in positional[: last + 1]]
    return args, [f"{name}={value}" for name, value in given.items()] + unpacked


def training() -> Iterator[Cell]:
    """Yield the section on training, with the model that comes with the package."""
    opening = f'## <a id="{anchor("trainer")}"></a>{heading("trainer")}'
    yield markdown(opening, blocks_in_latex(topics.docstring_of(trainer)))
    yield code("from npattn import Trainer")
    example = topics.docstring_of(trainer.Trainer)
    yield from text_and_examples(example[example.index(">>>") :])
    yield markdown(TRAINED)
    yield code(TRAINED_CODE)


def exercise(sheet: Exercise) -> Iterator[Cell]:
    """Yield an exercise: the question, the cell with blanks, the cell that checks it, hints and the solution."""
    sections = ", ".join(f"[{name}](#{name.lower()})" for name in sheet.sections)
    yield markdown(f"### Exercise: {sheet.title}", blocks_in_latex(sheet.question), f"Read first: {sections}.")
    starter = sheet.starter.partition('"""\n\n')[2]
    yield code(starter)
    function = re.findall(r"def (\w+)\(", starter.partition(MARK)[0])[-1]
    yield code(f'check("{sheet.name}", {function})')
    hints = [folded(f"Hint {number}", prose_in_latex(hint)) for number, hint in enumerate(sheet.hints, 1)]
    yield markdown(*hints, folded("Solution", f"```python\n{sheet.solution.strip()}\n```"))


def folded(title: str, text: str) -> str:
    """Return a text that opens by a click."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
