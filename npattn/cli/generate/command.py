"""`npattn generate`: text that follows a prompt, piece by piece as the model writes it."""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any

import numpy as np

from npattn.cli.generate.stream import TextStream
from npattn.cli.terminal import (
    Console,
    Parser,
    command_line,
    integer_from,
    nonempty_path,
    number_between,
    print_message,
    printable,
)
from npattn.hf_weights.search import end_ids
from npattn.hf_weights.text import is_folder, load_text_folder
from npattn.language_model import LanguageModel, LanguageModelConfig, generate
from npattn.runs import load_text_model
from npattn.runs.prediction import check_text

#: The most ids that follow a prompt by default.
MAX_NEW = 200

DESCRIPTION = """\
Prints the prompt and the text that a language model writes after it, as it
comes. The model is a run of `npattn train text`, or a folder as Hugging Face
keeps them: config.json, *.safetensors and tokenizer.json (needs npattn[hf]).
Without a PROMPT, standard input is the prompt, without its last line end.

The logits are divided by the temperature; then the K most probable symbols
stay, and of these the most probable whose probabilities reach P. The same seed
gives the same text. The text ends after N symbols, or earlier: at a symbol that
ends texts (eos_token_id of generation_config.json or config.json), or before a
text of --stop.
"""

EXAMPLES = """\
examples:
  %(prog)s runs/text "def forward("
  %(prog)s runs/text "import " --temperature 0 --max-new 50
  %(prog)s models/gpt2 "The cat" --top-p 0.9 --seed 7 --stop .
  %(prog)s runs/text --no-prompt < beginning.txt
"""


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "generate", help="write text with a language model", description=DESCRIPTION, epilog=EXAMPLES, **kwargs
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("model", metavar="RUN", type=nonempty_path, help="folder of a run, or of a model of Hugging Face")
    add("texts", metavar="PROMPT", nargs="*", default=[], help="what the text begins with (default: standard input)")
    add("--max-new", metavar="N", type=integer_from(0), help=f"the most symbols that follow (default: {MAX_NEW})")
    add("--temperature", metavar="T", type=number_between(0, math.inf), default=1.0,
        help="divides the logits; 0 takes the most probable symbol (default: 1)")  # fmt: skip
    add("--top-k", metavar="K", type=integer_from(1), help="the K most probable symbols stay (default: all)")
    add("--top-p", metavar="P", type=number_between(0, math.inf, without_low=True),
        help="the most probable symbols that reach P together stay (default: all)")  # fmt: skip
    add("--seed", metavar="S", type=integer_from(0), default=0, help="seed of the draws (default: 0)")
    add("--stop", metavar="TEXT", action="append", default=[], help="end before this text; may be given several times")
    add("--no-prompt", action="store_true", help="print only what follows the prompt")


def run(args: argparse.Namespace, console: Console) -> int:
    """Print the text that follows a prompt."""
    prompt = " ".join(args.texts) if args.texts else read_prompt()
    for name, text in (("prompt", prompt), *(("--stop", stop) for stop in args.stop)):
        check_text(text, name)
    loaded = load_text_folder(args.model) if is_folder(args.model) else load_text_model(args.model)
    model = loaded.model
    if not isinstance(model, LanguageModel):
        wanted = command_line("predict", args.model, "TEXT")
        raise ValueError(f"{args.model}: expected a language model, got an encoder and decoder: {wanted}")
    ids = loaded.encode(prompt) or first_ids(model.config)
    stream = TextStream(loaded.decode, ids, [stop for stop in args.stop if stop])
    ends = end_ids(args.model if is_folder(args.model) else None, model.config)

    def write(text: str) -> None:
        console.data(printable(text, kept="\n\t") if console.is_terminal else text, end="")

    def callback(row: int, id_: int) -> bool:
        if id_ not in ends:
            write(stream.push(id_))
        return stream.is_over

    if not args.no_prompt:
        write(prompt)
    try:
        generate(
            model, [np.array(ids)], max_new(args.max_new, len(ids), model.config), temperature=args.temperature,
            top_k=args.top_k, top_p=args.top_p, stop_id=ends, rng=args.seed, callback=callback,
        )  # fmt: skip
        write(stream.rest() + "\n")
    except KeyboardInterrupt:
        write("\n")                                           # the message begins a line
        raise
    return 0


def read_prompt() -> str:
    """Return standard input without its last line end."""
    if sys.stdin.isatty():
        print_message("type the prompt; Ctrl-D ends it")
    return sys.stdin.read().removesuffix("\n")


def first_ids(config: LanguageModelConfig) -> list[int]:
    """Return what an empty prompt is: the model's id of a beginning."""
    if config.bos_id is None:
        raise ValueError("prompt: expected some text, as the model has no id of a beginning; got none")
    return np.ravel(config.bos_id).tolist()[:1]


def max_new(given: int | None, n_prompt: int, config: LanguageModelConfig) -> int:
    """Return how many ids may follow; by default no more than the model has learned positions for."""
    if given is not None:
        return given
    if config.positions != "learned" or config.max_length is None:
        return MAX_NEW
    return max(0, min(MAX_NEW, config.max_length - n_prompt))
