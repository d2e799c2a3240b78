"""`npattn explore`: a page in the browser with every number of a forward and its backward."""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import threading
import webbrowser
from typing import Any
from urllib.parse import urlencode

from npattn.cli.terminal import Console, Parser, UsageError, integer_from, nonempty_path
from npattn.learn.explore.page import build
from npattn.learn.explore.saved import explore
from npattn.learn.explore.server import HOST, Server
from npattn.learn.explore.subjects import subjects

DESCRIPTION = """\
Opens a page in the browser: every matrix of a version of attention, a layer
or the trained model, each with its gradient beneath it. Point at a number and
see the numbers that make it, its formula and its line of code. Change a
number, a mask or a word, and all follows. Step through forward and backward.
The page comes from this machine alone, and Ctrl-C ends it.
With --out, it is written as one file, which can be read without npattn.
"""

EXAMPLES = """\
examples:
  %(prog)s
  %(prog)s v7
  %(prog)s layer_norm --no-browser
  %(prog)s g2p thorough
  %(prog)s g2p thorough --out thorough.html
"""

#: Ports are numbers of 16 bits.
LAST_PORT = 65535


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "explore", help="every number in the browser", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("subject", metavar="SUBJECT", nargs="?", default="v5",
        help="v1 … v14, a layer such as layer_norm, encoder_layer, decoder_layer, or g2p (default: v5)")
    add("word", metavar="WORD", nargs="?", help="what g2p reads (default: knight)")
    add("--port", type=integer_from(0), metavar="N", help="of the page (default: one that is free)")
    add("--no-browser", action="store_true", help="only print the address")
    add("--out", type=nonempty_path, metavar="FILE", help="write the page to FILE, for instance v5.html, and end")
    add("--overwrite", action="store_true", help="with --out: replace FILE if it is there")


def run(args: argparse.Namespace, console: Console) -> int:
    """Serve the page until Ctrl-C, or write it."""
    args.subject = subject_named(args.subject)
    if args.port is not None and args.port > LAST_PORT:
        raise UsageError(f"--port: expected a number from 0 to {LAST_PORT}, got {args.port}")
    if args.word is not None:
        if subjects()[args.subject].group != "model":
            raise UsageError(f"{args.word}: expected no WORD for {args.subject}")
        build(args.subject, {"word": args.word})              # says here what the model can't read
    return serve(args, console) if args.out is None else write(args, console)


def subject_named(name: str) -> str:
    """Return the name of a subject, however it is written. Raises UsageError, which suggests similar names."""
    key = name.strip().lower().replace("-", "_")
    if key not in subjects():
        similar = difflib.get_close_matches(key, subjects(), n=3)
        known = f"did you mean {' or '.join(similar)}?" if similar else f"known are {', '.join(subjects())}"
        raise UsageError(f"{name}: nothing to explore; {known}")
    return key


def write(args: argparse.Namespace, console: Console) -> int:
    """Write the page. Raises FileExistsError rather than replace a file unasked."""
    if args.port is not None or args.no_browser:
        raise UsageError("--port and --no-browser: expected none of them with --out")
    if args.out.suffix not in (".html", ".htm"):
        raise UsageError(f"--out: expected a name that ends in .html, got {args.out}")
    if os.path.lexists(args.out) and not args.overwrite:
        raise FileExistsError(errno.EEXIST, "is there already; --overwrite replaces it", str(args.out))
    explore(args.subject, word=args.word).save(args.out)
    console.line(f"{args.out}: {args.subject}. Open it with a browser; it needs no network.")
    return 0


def serve(args: argparse.Namespace, console: Console) -> int:
    """Serve the page until Ctrl-C."""
    if args.overwrite:
        raise UsageError("--overwrite: expected --out too")
    try:
        server = Server(args.port or 0)
    except OSError as error:
        reason = f"{error.strerror}; without --port a free one is taken"
        raise OSError(error.errno, reason, f"{HOST}:{args.port}") from error
    with server:
        asked = {"subject": args.subject} | ({} if args.word is None else {"word": args.word})
        address = f"{server.address}?{urlencode(asked)}"
        console.line(f"{address}\nThis page is for your browser on this machine alone. Ctrl-C ends it.")
        if not args.no_browser:
            webbrowser.open(address)
        threading.Thread(target=server.warm_up, daemon=True).start()
        server.serve_forever()
    return 0
