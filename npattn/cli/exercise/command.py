"""`npattn exercise`: write an exercise, check it, or print a hint or the solution."""

from __future__ import annotations

import argparse
import difflib
import errno
import os
from pathlib import Path
from typing import Any

from npattn._internal.files.whole import write_text
from npattn.cli.terminal import (
    WIDTH,
    Console,
    Parser,
    UsageError,
    command_line,
    nonempty_path,
    pad_right,
    shortened,
    two_columns,
)
from npattn.learn.exercises import NAMES, RIGHT, Exercise, Result, grade, read

DESCRIPTION = """\
Without a NAME: the exercises in the order in which to do them, with the
sections of `npattn explain foundations` that each one needs. Then a line for
each exercise in the current folder says whether it is right; these files run.

With a NAME: writes NAME.py into the current folder, which is the only file
that this command ever writes. It has the question, a complete forward and
blanks in the backward. The derivation belongs on paper first.

With --check: compares your gradients with numeric derivatives of forward, and
says in words how they are wrong. If the gradient of E is called dE, and so on,
the first line that goes wrong is named. Blanks may stay while you check the
rest. The exit status is 0 if everything is right, else 1. Your file is run.

With --hint: the first of three hints; --hint 2 and --hint 3 go on from there.
Nothing is recorded, so the number says which one is next.
With --solution: a complete file with its derivation.
"""

EXAMPLES = """\
examples:
  %(prog)s
  %(prog)s softmax
  %(prog)s softmax --check
  %(prog)s softmax --check my_softmax.py
  %(prog)s softmax --hint
  %(prog)s softmax --solution
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "exercise", help="derive a backward yourself", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    parser.add_argument("name", metavar="NAME", nargs="?", help="which exercise (default: list them)")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--check", metavar="FILE", nargs="?", type=nonempty_path, const=Path(), help="check FILE (default: NAME.py)")
    add("--hint", metavar="N", nargs="?", type=hint_number, const=1, help="print hint N (default: 1)")
    add("--solution", action="store_true", help="print the solution")


def hint_number(text: str) -> int:
    """Parse the number of a hint."""
    if text not in ("1", "2", "3"):
        raise argparse.ArgumentTypeError(f"expected 1, 2 or 3, got {text!r}")
    return int(text)


def run(args: argparse.Namespace, console: Console) -> int:
    """Do what the options ask; return 1 when a checked file is not right."""
    if args.name is None:
        if args.check or args.hint or args.solution:
            raise UsageError("NAME is missing: which exercise?")
        return list_exercises(console)
    exercise = find(args.name)
    if args.check is not None:
        return check(exercise, args.check if args.check.name else Path(f"{exercise.name}.py"), console)
    if args.hint is not None:
        return show_hint(exercise, args.hint, console)
    if args.solution:
        console.lines(exercise.solved.splitlines())
        return 0
    return write(exercise, Path(f"{exercise.name}.py"), console)


def find(name: str) -> Exercise:
    """Return the exercise of that name. Raises UsageError, which suggests similar names."""
    name = name.lower().replace("-", "_").removesuffix(".py")
    if name not in NAMES:
        similar = difflib.get_close_matches(name, NAMES, n=3)
        hint = f"did you mean {' or '.join(similar)}?" if similar else f"{command_line('exercise')} lists all exercises"
        raise UsageError(f"{name}: unknown exercise; {hint}")
    return read(name)


def list_exercises(console: Console) -> int:
    """Print a line for each exercise, and one for each file of an exercise in the current folder."""
    exercises = [read(name) for name in NAMES]
    rows = [(e.name, f"{e.teaches} [{','.join(e.sections)}]") for e in exercises]
    console.lines(two_columns(rows, indent=""))
    started = {e.name: grade(e, path) for e in exercises if is_of(e, path := Path(f"{e.name}.py"))}
    todo = [name for name in NAMES if name not in started or started[name].verdict != RIGHT]
    if todo:
        first = f"{'Go on' if started else 'Begin'} with {command_line('exercise', todo[0])}"
        console.lines(("", first + " --check" * (todo[0] in started)))
    console.line(f"[F9] is a section of the foundations: {command_line('explain', 'foundations', 'F9')}")
    if started:
        console.heading("In this folder")
    for name, result in started.items():
        console.line(f"{pad_right(f'{name}.py', 20)}{summary(result)}")
    return 0


def is_of(exercise: Exercise, path: Path) -> bool:
    """Whether a file is this exercise. Other files may have its name, and must not be run unasked."""
    try:
        return path.read_bytes().startswith(f'"""npattn exercise {exercise.name}:'.encode())
    except OSError:
        return False


def summary(result: Result) -> str:
    """Return the verdict of a file in one line: `wrong: dQ, dK`."""
    rows = [row for row in result.rows if row.verdict == result.verdict]
    names = ", ".join(row.name or row.words for row in rows)
    return result.verdict if result.verdict == RIGHT else shortened(f"{result.verdict}: {names}", WIDTH - 20)


def write(exercise: Exercise, path: Path, console: Console) -> int:
    """Write the starter into the current folder. Raises FileExistsError rather than replace a file."""
    if os.path.lexists(path):
        check = command_line("exercise", exercise.name, "--check")
        raise FileExistsError(errno.EEXIST, f"is there already, and is not replaced; {check} checks it", str(path))
    write_text(path, exercise.starter)
    console.line(f"{path}: {exercise.title}. The question is at its top.")
    console.line(f"Check it with {command_line('exercise', exercise.name, '--check')}")
    return 0


def check(exercise: Exercise, path: Path, console: Console) -> int:
    """Print what is right and what is wrong in a file."""
    if path == Path(f"{exercise.name}.py") and not os.path.lexists(path):
        write_it = command_line("exercise", exercise.name)
        raise FileNotFoundError(errno.ENOENT, f"no such file; {write_it} writes it", str(path))
    result = grade(exercise, path)
    console.lines(result.lines(WIDTH))
    if result.verdict == RIGHT:
        after = NAMES[NAMES.index(exercise.name) + 1 :][:1]
        console.line(console.style(f"{path} is right.", "green") + f" Next: {command_line('exercise', *after)}")
        return 0
    console.line(f"{path} is not right yet. A hint: {command_line('exercise', exercise.name, '--hint')}")
    return 1


def show_hint(exercise: Exercise, number: int, console: Console) -> int:
    """Print a hint, and the command for what comes after it."""
    console.paragraph(f"Hint {number} of 3. {exercise.hints[number - 1]}")
    after = ("--hint", str(number + 1)) if number < 3 else ("--solution",)
    console.lines(("", f"After that: {command_line('exercise', exercise.name, *after)}"))
    return 0
