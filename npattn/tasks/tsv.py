"""Your own pairs: a file in UTF-8 with one ``source⇥target`` on every line.

Blank lines, white space around a text and repeated pairs are dropped. So are a byte order mark and the carriage returns
of Windows. Letters and accents are composed (Unicode's NFC), so the two spellings of one word are one source. A target
may be empty: the model then learns to write nothing.

The pairs are split by the text of their source, so all targets of a source are in the same split. `hash_order` sorts
the different sources; their order in the file does not matter. The first 5 % (rounded up) are for validation, the next
10 % (rounded down) for test, and the rest for training.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from npattn._internal.checks import check_path
from npattn.tasks.codec import Unit, build_codec, check_ordinary, check_unit, detokenize, nfc, tokenize
from npattn.tasks.order import hash_order
from npattn.tasks.task import Item, Task

LINE = "source, one tab, target"

#: The most symbols of a source or a target. At 4,000 symbols each attention holds 64 MiB of scores for each head, and a
#: step keeps those of all layers; at 20,000 symbols it is 25 times as much.
LONGEST = 4_000

DEFAULTS: dict[str, Any] = {
    "d_model": 128, "n_heads": 4, "d_ff": 512, "n_encoder_layers": 2, "n_decoder_layers": 2,
    "dropout": 0.1, "norm": "pre", "tie": "output",
    "batch_size": 64, "steps": 5_000, "peak_rate": 1e-3, "warmup": 500, "smoothing": 0.1, "clip": 1.0,
}  # fmt: skip


def load_tsv(path: str | Path, *, unit: Unit = "characters", target_unit: Unit | None = None) -> Task:
    """Read a file of pairs.

    - path: the file.
    - unit: what one symbol is, "characters" or "words".
    - target_unit: the same for the targets; None takes `unit`.

    Raises: FileNotFoundError when there is no such file; ValueError for an unknown unit; ValueError, with the file and
    the number of the line, when the file is not UTF-8, a line is not source⇥target, a word is one that npattn adds
    itself (``<pad>``, ``<bos>``, ``<eos>``), a text has more than 4,000 symbols, or there are fewer than two different
    sources.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pairs.tsv")
    ...     _ = path.write_text("one\\t1\\ntwo\\t2\\nthree\\t3\\nthree\\tIII\\n")
    ...     task = load_tsv(path)
    >>> task.title, len(task.train), task.validation
    ('4 pairs from pairs.tsv', 3, [Item(source='one', references=('1',))])
    """
    path = check_path("path", path)
    target_unit = unit if target_unit is None else target_unit
    check_unit(unit)
    check_unit(target_unit, "target_unit")
    targets: dict[str, dict[str, None]] = {}                  # a dict keeps each target once, and their order
    for source, target in read_pairs(path, (unit, target_unit)):
        targets.setdefault(_respace(source, unit), {})[_respace(target, target_unit)] = None
    if len(targets) < 2:
        raise ValueError(f"{path}: expected two or more different sources, to train and to validate, got one")
    train, validation, test = split_sources(targets)
    examples = [(source, target) for source in train for target in targets[source]]
    codec = build_codec(examples, unit, target_unit)
    return Task(
        name=str(path),
        title=f"{sum(map(len, targets.values())):,} pairs from {Path(path).name}",
        codec=codec,
        train=[codec.encode_pair(source, target) for source, target in examples],
        validation=[Item(source, tuple(targets[source])) for source in validation],
        test=[Item(source, tuple(targets[source])) for source in test],
        score_names=("exact match", "error rate"),
        lower_is_better=False,
        options={"unit": unit, "target_unit": target_unit},
        defaults=dict(DEFAULTS),
    )


def read_pairs(path: str | Path, units: tuple[Unit, Unit] = ("characters", "characters")) -> list[tuple[str, str]]:
    """Return the pairs of a file in their order. Blank lines and white space around a text are dropped.

    - path: the file.
    - units: what one symbol of source and target is.

    Raises: FileNotFoundError and ValueError, as `load_tsv` does.
    """
    pairs = []
    for number, line in enumerate(_read_text(Path(path)).split("\n"), start=1):  # splitlines() splits at \f too
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 2 or not fields[0]:
            raise ValueError(f"{path}, line {number}: expected {LINE}, got {_describe(fields)}")
        try:
            for field, unit in zip(fields, units, strict=True):
                symbols = tokenize(field, unit)
                check_ordinary(symbols)
                if len(symbols) > LONGEST:
                    raise ValueError(f"expected at most {LONGEST:,} {unit} on a side, got {len(symbols):,}")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        pairs.append((fields[0], fields[1]))
    if not pairs:
        raise ValueError(f"{path}: expected lines of {LINE}, got an empty file")
    return pairs


def split_sources(sources: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Split distinct sources into training, validation and test by the hash of their text.

    >>> [len(part) for part in split_sources("abcdefghijkl")]
    [10, 1, 1]
    """
    order = hash_order(sources)
    n_validation, n_test = -(-len(order) // 20), len(order) // 10
    held_out = n_validation + n_test
    return order[held_out:], order[:n_validation], order[n_validation:held_out]


def _respace(text: str, unit: Unit) -> str:
    """Return the text with white space as `detokenize` writes it. Texts of the same symbols become equal."""
    return detokenize(tokenize(text, unit), unit)


def _read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, composed, without its byte order mark."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of lines of {LINE}, found no such file")
    data = path.read_bytes()
    try:
        return nfc(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
    raise ValueError(f"{path}, line {line}: expected text in UTF-8, got the byte 0x{byte:02x} out of place")


def _describe(fields: list[str]) -> str:
    """Return what is wrong with the fields of a line."""
    if len(fields) == 1:
        text = fields[0] if len(fields[0]) <= 40 else fields[0][:39] + "…"
        return f"no tab in {text!r}"
    if len(fields) > 2:
        return f"{len(fields) - 1} tabs"
    return "an empty source"
