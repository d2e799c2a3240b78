"""The command line: ``npattn`` or ``python -m npattn``.

`main` returns the exit status: 0 for success, 1 for a failure, 2 for a wrong command line, and after a signal what
shells expect (130 for Ctrl-C). An error is one line on standard error; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence

import npattn
from npattn._internal.system.memory import keep_memory
from npattn.cli import evaluate, figures
from npattn.cli.check import command as check
from npattn.cli.conform import command as conform
from npattn.cli.exercise import command as exercise
from npattn.cli.explain import command as explain
from npattn.cli.explore import command as explore
from npattn.cli.generate import command as generate
from npattn.cli.notebook import command as notebook
from npattn.cli.predict import command as predict
from npattn.cli.terminal import (
    FAILURE,
    INTERRUPTED,
    Console,
    Parser,
    UsageError,
    error_message,
    print_error,
    print_message,
    program,
)
from npattn.cli.tour import command as tour
from npattn.cli.trace import command as trace
from npattn.cli.train import command as train
from npattn.cli.train.ranks import is_first_process

DESCRIPTION = """\
Attention and the Transformer in NumPy alone, every backward pass by hand.
Without a command: the tour, which takes half a minute.
"""

EXAMPLES = """\
examples:
  %(prog)s
  %(prog)s check
  %(prog)s explain v5
  %(prog)s explore v5
  %(prog)s trace v5
  %(prog)s exercise softmax
  %(prog)s notebook climb.ipynb
  %(prog)s train dates
  %(prog)s predict g2p knight --show-attention
  %(prog)s predict --help
  %(prog)s generate runs/text "import "
"""

COMMANDS = (
    tour, check, conform, explain, trace, explore, exercise, notebook, train, predict, evaluate, generate, figures
)  # fmt: skip

#: The commands that take any number of texts or files, and the name of that argument.
SEVERAL = {"predict": "texts", "generate": "texts", "train": "files"}

USAGE, BROKEN_PIPE = 2, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    - argv: the arguments after the program's name; None for those of the process.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    prepare_streams()
    with warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore", RuntimeWarning)   # NumPy's, of an overflow: the NaN after it is an error
        return run(argv, debug)


def run(argv: list[str], debug: bool) -> int:
    """Run the command line; print an error in one line."""
    command = program()
    try:
        args = parse(argv)
        command = f"{command} {args.command}"
        keep_memory()                                         # a setting of the process, which is ours here
        console = Console()
        status = int(args.run(args, console))
        if console.missing:
            lacking = " ".join(list(console.missing)[:20])
            print_message(f"{console.stream.encoding}, the encoding of this terminal, lacks letters: ? stands for "
                          f"{lacking}. Files and pipes get UTF-8")
        return status
    except SystemExit as end:                                 # --help and --version
        return int(end.code or 0)
    except UsageError as error:
        if not is_first_process():                            # mpiexec gives all processes the same command line
            return USAGE
        return print_error(f"{error} (see {error.prog or command} --help)", USAGE, debug)
    except KeyboardInterrupt as error:
        return print_error(error_message(error), getattr(error, "status", INTERRUPTED), debug)
    except BrokenPipeError:                                   # of standard output; a training run is saved before
        with contextlib.suppress(OSError):                    # the stream may have no file descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:                                # any error becomes one line; --debug shows where
        return print_error(error_message(error), FAILURE, debug)


def prepare_streams() -> None:
    """Make the standard streams safe to read and to write.

    A closed stream becomes the null device. Otherwise the next file that is opened, for instance a checkpoint, would
    get the number of standard error, and messages would be written into it.

    Files and pipes are in UTF-8, whatever the locale. A terminal keeps its encoding; `Console` knows what it lacks.
    Bytes that are no UTF-8 become surrogates: `check_text` refuses them in a text, and in a path they are written back.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))   # noqa: SIM115 - for the whole process
    for stream, encoding, errors_of_terminal, errors in (
        (sys.stdin, "utf-8-sig", "surrogateescape", "surrogateescape"),
        (sys.stdout, "utf-8", "replace", "surrogateescape"),
        (sys.stderr, "utf-8", "backslashreplace", "backslashreplace"),
    ):
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(ValueError):             # of a caller that has begun to read standard input
                if stream.isatty():
                    stream.reconfigure(errors=errors_of_terminal)
                else:
                    stream.reconfigure(encoding=encoding, errors=errors)


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command line. Raises UsageError."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if args.command is None and not rest:
        args = parser.parse_args([*argv, "tour"])
    if args.command in SEVERAL and not any(text.startswith("-") for text in rest):
        getattr(args, SEVERAL[args.command]).extend(rest)     # argparse does not accept them after an option
    elif rest:
        raise UsageError(f"unknown argument {rest[0]}", f"{program()} {args.command or ''}".rstrip())
    return args


def build_parser() -> Parser:
    """Return the parser of all commands."""
    debug = Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")
    parser = Parser(program(), description=DESCRIPTION, epilog=EXAMPLES, parents=[debug])
    parser.add_argument("--version", action="version", version=f"npattn {npattn.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add_parser(commands, parents=[debug])
    return parser
