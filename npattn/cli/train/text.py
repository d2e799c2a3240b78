"""What `npattn train text` says of its data, its model and its results."""

from __future__ import annotations

from typing import Any

from npattn.cli.terminal import Console, command_line, counted, pad_right, percent
from npattn.runs.load import load_text_model
from npattn.runs.run import Run
from npattn.tasks.baselines import compressed, five_gram_bits

#: The beginning of a text that the example of `npattn generate` goes on with.
PROMPT = "def "

MEANING = (
    "Bits per byte: a byte has 8 bits. An arithmetic coder that knows the model's probabilities would write "
    "{model:.3f} bits for each, which is {share} of the size of these files. The model's likeliest byte is the right "
    "one in {right} of all places. The model and the 5-gram model have learnt from the training files. gzip and xz "
    "begin with nothing, for each file alone or for all in one; what they write is enough to get the files back, "
    "while the coder needs the model too."
)


def data(run: Run) -> str:
    """Return what there is to train on and to measure on."""
    train, validation, test = (
        f"{counted(sum(map(len, part)), 'byte')} of {counted(len(part), 'file')}" for part in run.task.parts
    )
    return f"{train} to train on, {validation} for validation, {test} for test"


def sizes(run: Run) -> str:
    """Return the sizes of the model."""
    c = run.config
    return f"{counted(c.n_layers, 'layer')} of width {c.d_model}, {counted(c.n_heads, 'head')}, feed-forward {c.d_ff}"


def rows(run: Run) -> tuple[int, str, str]:
    """Return how many rows an epoch has, what a row is, and how long."""
    batches = run.task.batches(run.settings.batch_size, 0)
    return batches.rows, "row", f" of {counted(batches.width, 'byte')}"


def results(run: Run, console: Console, beam: int) -> dict[str, Any] | None:
    """Print the bits per byte of the best model on the test files, and those of gzip, xz and a 5-gram model.

    Return the scores of the model and those of the others, by name; None without test files.
    """
    train, _, test = run.task.parts
    if not test:
        return None
    n = sum(map(len, test))
    console.live(f"  reading {counted(n, 'test byte')} …")
    scores = run.score(run.ranks.from_first(lambda: load_text_model(run.folder).model), run.task.test)
    bits, wrong = scores.values()
    console.live("  training a 5-gram model and compressing …")
    grams = run.ranks.from_first(lambda: five_gram_bits(train, test))
    others = run.ranks.from_first(lambda: [(name, *compressed(name, test)) for name in ("xz", "gzip")])
    title = f"Bits per byte of {counted(len(test), 'test file')} ({counted(n, 'byte')})"
    console.lines(("", console.style(pad_right(title, 56) + "each alone  all in one", "bold")))
    for name, *values in (("this model", bits), ("5-gram model", grams), *others):
        console.line(pad_right(f"  {name}", 54) + "".join(f"{value:12.3f}" for value in values))
    console.line()
    console.paragraph(MEANING.format(model=bits, share=percent(bits / 8, 0), right=percent(1 - wrong, 0)))
    alone_and_in_one = {name: values for name, *values in others}
    return {**scores, "5-gram model": grams, **alone_and_in_one}


def example(run: Run) -> str:
    """Return a command that uses the model."""
    return command_line("generate", run.folder, PROMPT)
