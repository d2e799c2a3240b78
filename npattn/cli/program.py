"""The command line: ``npattn`` or ``python -m npattn``.

`main` returns the exit status: 0 when all went well, 1 for a failure, 2 for a command line that was not understood, and
what shells expect after a signal (130 for Ctrl-C). Whatever goes wrong is one line on standard error; ``--debug`` shows
where it happened.
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
from npattn.cli import figures, predict
from npattn.cli.check import command as check
from npattn.cli.explain import command as explain
from npattn.cli.terminal import Console, Parser, UsageError, complain, program, sentence
from npattn.cli.tour import command as tour
from npattn.cli.train import command as train
from npattn.cli.train.ranks import started_first

DESCRIPTION = """\
Attention and the Transformer in NumPy alone, every backward pass by hand.
Without a command: the tour.
"""

EXAMPLES = """\
examples:
  npattn                                            the tour, under two minutes
  npattn check                                      prove every gradient
  npattn explain v5                                 the derivation and the code
  npattn train g2p                                  needs npattn[g2p]; resumable
  npattn predict runs/g2p attention transformer     --show-attention shows why
"""

COMMANDS = (tour, check, explain, train, predict, figures)

FAILURE, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default the process's own, and return the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    prepare_streams()
    with warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore", RuntimeWarning)   # NumPy's of an overflow; we stop at what comes of it
        return guarded(argv, debug)


def guarded(argv: list[str], debug: bool) -> int:
    """Run the command line, and say in one line what goes wrong."""
    try:
        args = parse(argv)
        keep_memory()                                  # for programs, and this is one
        return int(args.run(args, Console()))
    except SystemExit as done:                                # --help and --version
        return int(done.code or 0)
    except UsageError as error:
        if not started_first():                               # one of many processes with this command line
            return USAGE
        return complain(f"{error} (see {error.prog or program()} --help)", USAGE, debug)
    except KeyboardInterrupt as error:
        return complain(sentence(error), getattr(error, "status", INTERRUPTED), debug)
    except BrokenPipeError:                                   # the reader of our output left; so do we
        with contextlib.suppress(OSError):                    # a stream that is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE                                    # a training has saved itself
    except Exception as error:                                # the last one to hear of it
        return complain(sentence(error), FAILURE, debug)


def prepare_streams() -> None:
    """Let standard streams take what we write.

    One that the caller closed becomes the null device: else the next file that is opened, a checkpoint perhaps,
    would get its number, and whatever is written to standard error would land in it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))   # noqa: SIM115 - for the whole process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")              # a terminal without √ must not end the program


def parse(argv: list[str]) -> argparse.Namespace:
    """Read a command line. Raises UsageError."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if args.command is None and not rest:
        args = parser.parse_args([*argv, "tour"])
    args.prog = program()
    if args.command == "predict" and not any(text.startswith("-") for text in rest):
        args.texts += rest                                    # argparse leaves the texts that follow an option
    elif rest:
        raise UsageError(f"unknown argument {rest[0]}", f"{args.prog} {args.command or ''}".rstrip())
    return args


def build_parser() -> Parser:
    """Return the parser of all commands."""
    debug = Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error happened")
    parser = Parser(program(), description=DESCRIPTION, epilog=EXAMPLES, parents=[debug])
    parser.add_argument("--version", action="version", version=f"npattn {npattn.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add_parser(commands, parents=[debug])
    return parser
