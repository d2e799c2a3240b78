"""What the commands share.

`arguments` parses arguments, `console` writes to the terminal, `errors` reports errors in one line, `suggestions`
writes commands that the user can copy, `attention_text` draws attention as text, `pictures` saves pictures.
"""

from npattn.cli.terminal.arguments import (
    MODEL_HELP,
    Parser,
    UsageError,
    add_ensemble,
    integer_from,
    model_name,
    nonempty_path,
    number_between,
)
from npattn.cli.terminal.attention_text import (
    LEGEND,
    alignment,
    alignment_lines,
    draw_alignments,
    legend_line,
    shade,
)
from npattn.cli.terminal.console import (
    WIDTH,
    Console,
    bar,
    counted,
    duration,
    pad_right,
    percent,
    printable,
    shortened,
    two_columns,
    width,
)
from npattn.cli.terminal.errors import FAILURE, INTERRUPTED, error_message, print_error, print_message
from npattn.cli.terminal.pictures import save_picture
from npattn.cli.terminal.suggestions import command_line, program

__all__ = [
    "FAILURE",
    "INTERRUPTED",
    "LEGEND",
    "MODEL_HELP",
    "WIDTH",
    "Console",
    "Parser",
    "UsageError",
    "add_ensemble",
    "alignment",
    "alignment_lines",
    "bar",
    "command_line",
    "counted",
    "draw_alignments",
    "duration",
    "error_message",
    "integer_from",
    "legend_line",
    "model_name",
    "nonempty_path",
    "number_between",
    "pad_right",
    "percent",
    "print_error",
    "print_message",
    "printable",
    "program",
    "save_picture",
    "shade",
    "shortened",
    "two_columns",
    "width",
]
