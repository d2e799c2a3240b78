"""Commands that npattn suggests. The user can copy them into the shell."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path


def program() -> str:
    """Return the name under which npattn was started."""
    return "python -m npattn" if Path(sys.argv[0]).parts[-2:] == ("npattn", "__main__.py") else "npattn"


def command_line(*words: str | Path) -> str:
    """Return a command of npattn with these arguments, quoted for the shell.

    >>> command_line("predict", Path("runs", "dates"), "28 July 2025").partition("predict")[2]
    " runs/dates '28 July 2025'"
    """
    quoted = subprocess.list2cmdline if sys.platform == "win32" else shlex.join
    return f"{program()} {quoted([str(word) for word in words])}"
