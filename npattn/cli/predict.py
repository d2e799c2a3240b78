"""`npattn predict`: the outputs of a trained model for texts."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TextIO

import numpy as np

from npattn import beam_search, greedy_search, plot
from npattn._internal.checks import Array, shown
from npattn.cli.terminal import (
    MODEL_HELP,
    Console,
    Parser,
    UsageError,
    add_ensemble,
    alignment,
    alignment_lines,
    command_line,
    draw_alignments,
    integer_from,
    legend_line,
    model_name,
    nonempty_path,
    pad_right,
    print_message,
    save_picture,
    width,
)
from npattn.hf_weights.search import Search, search_of
from npattn.hf_weights.text import is_folder, load_text_folder
from npattn.runs.load import is_shipped, load_model
from npattn.runs.prediction import Step, check_text, encode, quoted, unknown_symbols
from npattn.runs.trained import CHUNK, UNKNOWN, TrainedModel, others_of
from npattn.tasks import Codec
from npattn.tasks.vocabulary import EOS, SPECIALS
from npattn.transformer import Transformer

#: Texts that `--plot` draws, at most, and other symbols that `--explain` lists for a step.
MAX_PLOTTED, RUNNERS_UP = 12, 3

#: Options that show how a single model decides.
OF_ONE_MODEL = ("explain", "show_attention", "per_head", "plot")

#: A target of a folder has at most this many ids more than twice its source.
LONGER = 50

EXAMPLES = """\
The output is one line for each text, in the same order, and with
--show-attention or --per-head a picture in text below each line. An empty line
gives an empty line, and so does a text that cannot be read: it is named on
standard error, and the status is 1. Files and pipes are in UTF-8.

With --n-best K, a text gives up to K lines: the text, a target and its score,
separated by tabs; a picture is of the best. The higher the score, the better:
it is log P, which --explain prints, divided by the length penalty
((5 + n)/6)^0.6, where n counts the symbols of the target and <eos>. With --json
each text gives one line: an object with "text", and "target" or "targets" or
"error"; --explain adds "log_probability" and "steps".

A map of --show-attention has a row for each symbol that was written, <eos> for
the end, and a column for each symbol of the source. It shows the weights A of
the last decoder layer's cross-attention: the mean of its heads, or with
--per-head every head. --explain lists for each step the symbol that was
written, the likeliest others and <eos>, each with its probability: the softmax
of the model's logits.

With --ensemble several models choose each symbol together, by the mean of their
probabilities. They must have the same vocabularies, as runs of one task have.

RUN may be a folder as Hugging Face keeps them, with an encoder and decoder and
tokenizer.json (needs npattn[hf]). It is searched as generation_config.json
says, and has no option but --beam.

examples:
  %(prog)s g2p knight thorough
  %(prog)s g2p knight --show-attention
  %(prog)s g2p read --explain
  %(prog)s g2p attention --plot attention.png
  %(prog)s runs/dates "Monday, 28 July 2025"
  %(prog)s runs/g2p --beam 5 < words.txt > phonemes.txt
  %(prog)s g2p read --n-best 3
  %(prog)s runs/1 --ensemble runs/2 --ensemble runs/3 knight
"""


class Text(NamedTuple):
    """A source text, what messages call it, and why it cannot be read: empty if it can."""

    name: str
    source: str
    error: str


def add_parser(commands: argparse._SubParsersAction[Parser], **kwargs: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("predict", help="apply a trained model to texts", epilog=EXAMPLES, **kwargs)
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("model", metavar="RUN", type=model_name, help=MODEL_HELP)
    # With a default, argparse does not list TEXT among the arguments that are required.
    add("texts", metavar="TEXT", nargs="*", default=[], help="source texts (default: the lines of standard input)")
    add("--beam", metavar="K", type=integer_from(1), help="beam search with K hypotheses (default: greedy)")
    add("--n-best", metavar="K", type=integer_from(1), help="the K best targets of a beam search, with their scores")
    add_ensemble(parser)
    add("--json", action="store_true", help="one JSON object for each text")
    add("--explain", action="store_true", help="show the probability of each symbol, of the likeliest others and <eos>")
    add("--show-attention", action="store_true", help="show in text which source symbols each target symbol attends to")
    add("--per-head", action="store_true", help="the same for every head instead of the mean of the heads")
    add("--plot", metavar="FILE", type=nonempty_path, help="draw it into a .png, .svg or .pdf (needs npattn[figures])")


def run(args: argparse.Namespace, console: Console) -> int:
    """Print what the model answers to every source text; return 1 if there is a text that it cannot read."""
    if not is_shipped(args.model) and is_folder(args.model):
        return run_folder(args, console)
    check_options(args)
    model = load_model(args.model)
    ensemble = [load_model(name) for name in args.ensemble]
    others_of(model, ensemble)                                # names a model of other symbols before a text is read
    plotted: list[tuple[str, str]] = []
    status = 0
    texts = numbered_texts(args.texts, partial(encode, model.transformer, model.codec))
    legend = [legend_line(args.per_head), ""]                 # below the first map
    while chunk := list(islice(texts, 1 if is_typed(args.texts) else CHUNK)):
        for text, found in zip(chunk, answers(model, chunk, args, ensemble), strict=True):
            status = 1 if text.error else status
            show(text, found, args, model, console)
            if found is None:
                continue
            target = found if args.n_best is None else found[0].text
            if args.plot is not None and target:
                plotted.append((text.source, target))
            if args.explain and not args.json:
                console.lines(["", *step_lines(model.probabilities(text.source, target))])
            if args.show_attention or args.per_head:
                A = alignment(model.transformer, model.codec, text.source, target)
                console.lines(alignment_lines(A, model.codec, text.source, target, per_head=args.per_head) + legend)
                legend = []
            elif args.explain and not args.json:
                console.line()
    if plotted:
        save_picture(draw_alignments(model.transformer, model.codec, plotted, per_head=args.per_head), args.plot)
    return status


def run_folder(args: argparse.Namespace, console: Console) -> int:
    """Print what an encoder and decoder of Hugging Face answers to each text."""
    options = ("n_best", "ensemble", "json", *OF_ONE_MODEL)
    refuse(args, options, "expected a run of npattn train, got a folder of Hugging Face")
    loaded = load_text_folder(args.model)
    model, status = loaded.model, 0
    if not isinstance(model, Transformer):
        wanted = command_line("generate", args.model, "PROMPT")
        raise ValueError(f"{args.model}: expected an encoder and decoder, got a language model: {wanted}")
    most = sys.maxsize if model.config.max_length is None else model.config.max_length

    def check(source: str, name: str) -> None:
        if (count := len(loaded.encode(source))) > most:
            raise ValueError(f"{name}: expected at most {most} ids, got {count}")

    search = search_of(args.model)
    if search.left_out:
        listed = ", ".join(f"{name}={shown(value)}" for name, value in search.left_out.items())
        print_message(f"{args.model}: left out of the search: {listed}")
    for text in numbered_texts(args.texts, check):
        target = ""
        if text.source.strip() and not text.error:
            src = np.array([loaded.encode(text.source)])
            max_new = 2 * src.size + LONGER if search.max_new is None else search.max_new
            target = loaded.decode(found_ids(model, src, search, min(max_new, most), args.beam or search.beam))
        status = 1 if text.error else status
        console.data(" ".join(target.split()))
    return status


def found_ids(model: Transformer, src: Array, search: Search, max_new: int, beam: int) -> list[int]:
    """Return the best target of one source."""
    max_len = search.max_len(max_new)
    words: dict[str, Any] = {"bad_words_ids": search.words, "forced_bos_id": search.first}
    if beam == 1:
        return greedy_search(model, src, max_len, **words)[0]
    return beam_search(model, src, beam, max_len, **words, **search.options)[0][0].ids


def check_options(args: argparse.Namespace) -> None:
    """Raise a UsageError for options that do not fit together, before anything is computed."""
    if args.json and (args.show_attention or args.per_head):
        raise UsageError("--json: expected without --show-attention and --per-head, which print no JSON")
    if args.ensemble:
        refuse(args, OF_ONE_MODEL, "expected without --ensemble, because it shows a single model")
    if args.beam is not None and args.n_best is not None and args.n_best > args.beam:
        raise UsageError(f"--n-best: expected at most --beam {args.beam}, got {args.n_best}")
    if args.plot is not None:
        if not 0 < len(args.texts) <= MAX_PLOTTED:
            raise UsageError(f"--plot: expected 1 to {MAX_PLOTTED} texts, got {len(args.texts)}")
        plot.check_format(args.plot)


def refuse(args: argparse.Namespace, options: Iterable[str], why: str) -> None:
    """Raise a UsageError for the first of the options that is given."""
    for option in options:
        if getattr(args, option):
            raise UsageError(f"--{option.replace('_', '-')}: {why}")


def numbered_texts(given: list[str], check: Callable[[str, str], object]) -> Iterator[Text]:
    """Yield the given texts, or the lines of standard input. The error of a text that cannot be read is printed.

    `check` raises it as a ValueError; it gets each text with its name.
    """
    if is_typed(given):
        print_message("type one text on each line; Ctrl-D ends the input")
    name = "text" if given else "standard input, line"
    for number, source in enumerate(given or read_lines(sys.stdin), 1):
        text = Text(f"{name} {number}", source, "")
        try:
            check_text(source, text.name)
            if source.strip():
                check(source, text.name)
        except ValueError as error:
            text = text._replace(error=str(error))
            print_message(text.error)
        yield text


def is_typed(given: list[str]) -> bool:
    """Whether the texts come from a keyboard."""
    return not given and sys.stdin.isatty()


def read_lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream."""
    for line in stream:
        yield line.rstrip("\r\n")


def answers(
    model: TrainedModel, chunk: list[Text], args: argparse.Namespace, ensemble: list[TrainedModel]
) -> Iterator[Any]:
    """Yield what the model answers to each text; None for an empty text, or one that cannot be read."""
    asked = [text.source for text in chunk if text.source.strip() and not text.error]
    warn_of_unknown(asked, model.codec)
    found = iter(model(asked, n_best=args.n_best, beam=args.beam, unknown=UNKNOWN, ensemble=ensemble))
    return (next(found) if text.source.strip() and not text.error else None for text in chunk)


def warn_of_unknown(texts: Iterable[str], codec: Codec) -> None:
    """List on standard error the symbols that are not in the model's vocabulary."""
    if unknown := unknown_symbols(codec, texts):
        print_message(f"not in the model's vocabulary, read as <unk>: {quoted(unknown)}")


def show(text: Text, found: Any, args: argparse.Namespace, model: TrainedModel, console: Console) -> None:
    """Print the answer to a text: a target, or with --n-best a list of `Prediction`s."""
    if args.json:
        answer = {"error": text.error} if text.error else fields(text, found, args, model)
        console.data(json.dumps({"text": text.source, **answer}))   # in ASCII, with escapes for other letters
    elif found and args.n_best is not None:
        for target, _, score in found:
            console.data(f"{' '.join(text.source.split())}\t{target}\t{score:.4f}")
    else:
        console.data(found or "")


def fields(text: Text, found: Any, args: argparse.Namespace, model: TrainedModel) -> dict[str, Any]:
    """Return what `--json` says of the answer to a text."""
    explained = args.explain and found is not None
    if args.n_best is None:
        return {"target": found or ""} | (explanation(model.probabilities(text.source, found)) if explained else {})
    targets = [each._asdict() for each in found or []]
    if explained:
        for each in targets:
            each["steps"] = explanation(model.probabilities(text.source, each["text"]))["steps"]
    return {"targets": targets}


def explanation(steps: list[Step]) -> dict[str, Any]:
    """Return log P of the target that was written, in nats, and the probabilities of each step."""
    chosen = [step.probabilities[step.symbol] for step in steps]
    told = [{"symbol": s.symbol, "probability": p, "others": others(s)} for s, p in zip(steps, chosen, strict=True)]
    return {"log_probability": sum(map(math.log, chosen)), "steps": told}


def others(step: Step) -> dict[str, float]:
    """Return the probabilities of the likeliest symbols that a step did not write, and of <eos>.

    <pad> and <bos> have probabilities too, but no search writes them.
    """
    rest = [(name, p) for name, p in step.probabilities.items() if name not in (step.symbol, *SPECIALS[:EOS])]
    return dict(rest[:RUNNERS_UP] + [(name, p) for name, p in rest if name == SPECIALS[EOS]])


def step_lines(steps: list[Step]) -> list[str]:
    """Return the steps as text: the symbol that each wrote, the likeliest others, and the probability of the whole."""
    rows = [{step.symbol: step.probabilities[step.symbol]} | others(step) for step in steps]
    margin = max(width(name) for row in rows for name in row) + 1
    lines = ["  " + "   ".join(f"{pad_right(name, margin)}{p:.4f}" for name, p in row.items()) for row in rows]
    log_p = explanation(steps)["log_probability"]
    return [*lines, f"  P = {math.exp(log_p):.4f}, the product of the first column; log P = {log_p:.4f}"]
