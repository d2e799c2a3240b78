"""What commands share.

`arguments` reads arguments, `console` writes to the terminal, `errors` says in one line what went wrong,
`attention_text` draws attention as text, `pictures` saves pictures.
"""

from npattn.cli.terminal.arguments import Parser, UsageError, close_to, number, path, whole
from npattn.cli.terminal.attention_text import align_lines, alignment, draw_alignments
from npattn.cli.terminal.console import WIDTH, Console, bar, duration, fields, left, percent, shortened, visible
from npattn.cli.terminal.errors import complain, program, sentence
from npattn.cli.terminal.pictures import save_picture

__all__ = [
    "Console",
    "Parser",
    "UsageError",
    "WIDTH",
    "align_lines",
    "alignment",
    "bar",
    "close_to",
    "complain",
    "draw_alignments",
    "duration",
    "fields",
    "left",
    "number",
    "path",
    "percent",
    "program",
    "save_picture",
    "sentence",
    "shortened",
    "visible",
    "whole",
]
