"""Read the sheet of an exercise and cut the starter from its solution.

A new exercise needs its sheet and its name in NAMES. A sheet begins with the name, a title, a sentence of what it
teaches, and the sections of the foundations that it uses. Then come five sections:

- Question: what is given, what is asked, what to do first. It becomes the docstring of the student's file.
- Code: the solution. What lies between the comment ``# Your part`` and the ``return`` after it is the answer.
- Arguments: a function ``arguments(rng)``, which returns a tuple of arguments for each function to check, by name.
- Hints: three of them.
- Mistakes: what often stands in place of a piece of the solution, and the words for it. The line ``- those of softmax``
  adds those of another exercise that fit: what they replace is here too.

>>> exercise = read("softmax")
>>> exercise.asked("forward")
['dE']
>>> print(exercise.starter[exercise.starter.index("def backward") :].strip())
def backward(dA, A):
    # Your part: replace each `...`, with as many lines as you need.
    dE = ...
    return dE
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import NamedTuple

#: In the order in which they should be done: each needs what the ones before it taught.
NAMES = (
    "linear", "gate", "gelu", "log_sum_exp", "softmax", "mask", "cross_entropy", "layer_norm", "embedding", "dropout",
    "v1", "v2", "v3", "v4", "v5", "v6", "heads", "v7", "residual", "pre_norm", "decoder_layer", "tie", "adam",
    "v9", "v10",
)  # fmt: skip

MARK = "# Your part: replace each `...`, with as many lines as you need."
PART = re.compile(rf"(?P<mark>^ +{re.escape(MARK)}\n)(?P<answer>(?:.*\n)*?)(?P<end>^ +return (?P<names>.+)$)", re.M)
MISTAKE = re.compile(r"^- `(.+)` → `(.+)`:\s+((?:.|\n(?!- ))+)", re.M)


class Mistake(NamedTuple):
    """A typical mistake: what stands in place of a piece of the solution, and the words that explain it."""

    old: str
    new: str
    words: str


class Exercise(NamedTuple):
    """An exercise as its sheet has it.

    - title, teaches: half a sentence each.
    - sections: of the page of foundations that it uses: F8, F9.
    - question, solution, arguments: as on the sheet.
    - hints: from an idea to nearly the answer.
    """

    name: str
    title: str
    teaches: str
    sections: tuple[str, ...]
    question: str
    solution: str
    arguments: str
    hints: tuple[str, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def starter(self) -> str:
        """The student's file: the question, and the code with blanks in place of answers."""
        return self._file(PART.sub(_with_blanks, self.solution))

    @property
    def solved(self) -> str:
        """The same file with its answers."""
        return self._file(self.solution)

    def asked(self, function: str) -> list[str]:
        """Return the names of what a function returns; for a forward, which has no blanks, those of its backward."""
        part = PART.search(self.solution, self.solution.index(f"def {function}("))
        return part["names"].split(", ") if part else []

    def mistaken(self, *mistakes: Mistake) -> str:
        """Return the solution with these mistakes in it."""
        code = self.solution
        for mistake in mistakes:
            code = PART.sub(lambda part: part[0].replace(mistake.old, mistake.new), code)  # noqa: B023 - called at once
        return code

    def _file(self, code: str) -> str:
        command = f"npattn exercise {self.name}"
        sections = ", ".join(self.sections)
        usage = (
            f"Read first:   {sections} of `npattn explain foundations`\n"
            f"Check it:     {command} --check\n"
            f"Get a hint:   {command} --hint"
        )
        return f'"""{command}: {self.title}.\n\n{self.question}\n\n{usage}\n"""\n\n{code}\n'


def _with_blanks(part: re.Match[str]) -> str:
    indent = part["end"].partition("return")[0]
    return part["mark"] + "".join(f"{indent}{name} = ...\n" for name in part["names"].split(", ")) + part["end"]


def read(name: str) -> Exercise:
    """Return the exercise of that name. Raises KeyError for an unknown name."""
    if name not in NAMES:
        raise KeyError(name)
    text = files("npattn.learn.exercises").joinpath("sheets", f"{name}.md").read_text(encoding="utf-8")
    head, *rest = re.split(r"^## (\w+)\n", text, flags=re.M)
    section = {key: body.strip("\n") for key, body in zip(rest[::2], rest[1::2], strict=True)}
    found = re.fullmatch(r"# \w+: (.+)\n\nTeaches: (.+)\. Foundations: (.+)\.\n\n", head)
    assert found, f"{name}: no title, or no line of what it teaches"
    hints = re.split(r"^\d\. ", section["Hints"], flags=re.M)[1:]
    mistakes = [Mistake(old, new, " ".join(words.split())) for old, new, words in MISTAKE.findall(section["Mistakes"])]
    for other in re.findall(r"^- those of (\w+)$", section["Mistakes"], re.M):
        mistakes += [each for each in read(other).mistakes if each.old in section["Code"]]
    return Exercise(
        name,
        found[1],
        found[2],
        tuple(found[3].split(", ")),
        section["Question"],
        _code(section["Code"]),
        _code(section["Arguments"]),
        tuple(" ".join(hint.split()) for hint in hints),
        tuple(mistakes),
    )


def _code(section: str) -> str:
    return section.removeprefix("```python\n").removesuffix("\n```")
