"""The command: options, and the answer to each text in the form that the options ask for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from npattn import plot
from npattn.cli.predict.folder import run_folder
from npattn.cli.predict.steps import explanation, step_lines
from npattn.cli.predict.texts import Text, is_typed, numbered_texts
from npattn.cli.terminal import (
    MODEL_HELP,
    Console,
    Parser,
    UsageError,
    add_ensemble,
    alignment,
    alignment_lines,
    draw_alignments,
    integer_from,
    legend_line,
    model_name,
    nonempty_path,
    print_message,
    save_picture,
)
from npattn.hf_weights.text import is_folder
from npattn.runs.load import is_shipped, load_model
from npattn.runs.prediction import encode, quoted, unknown_symbols
from npattn.runs.trained import CHUNK, UNKNOWN, TrainedModel, others_of
from npattn.tasks import Codec

#: Texts that `--plot` draws, at most.
MAX_PLOTTED = 12

#: Options that show how a single model decides.
OF_ONE_MODEL = ("explain", "show_attention", "per_head", "plot")

#: Options for runs of `npattn train`, which a folder of Hugging Face does not have.
OF_RUNS = ("n_best", "ensemble", "json", *OF_ONE_MODEL)

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
        refuse(args, OF_RUNS, "expected a run of npattn train, got a folder of Hugging Face")
        return run_folder(args, console)
    check_options(args)
    model = load_model(args.model)
    ensemble = [load_model(name) for name in args.ensemble]
    others_of(model, ensemble, args.ensemble)                 # names a model of other symbols before a text is read
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
