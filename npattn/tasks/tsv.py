"""Your own pairs: a file in UTF-8 with one ``source⇥target`` on every line.

Blank lines, white space around a text and repeated pairs are dropped. So are a byte order mark and the carriage returns
of Windows. Letters and accents are composed (Unicode's NFC), so the two spellings of one word are one source. A target
may be empty: the model then learns to write nothing.

The pairs are split by the text of their source, so all targets of a source are in the same split. `hash_order` sorts
the different sources; their order in the file does not matter. The first 5 % (rounded up) are for validation, the next
10 % (rounded down) for test, and the rest for training. Data that is split already comes in files of its own for
validation and test. With one of them no test items are split off, and with one for validation nothing is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from npattn._internal.checks import check_flag, check_path, shown
from npattn.tasks.codec import Unit, build_codec, check_ordinary, check_unit, detokenize, nfc, tokenize
from npattn.tasks.order import hash_order
from npattn.tasks.task import Item, Task

LINE = "source, one tab, target"

#: The most symbols of a source or a target. At 4,000 symbols each attention holds 64 MiB of scores for each head, and a
#: step keeps those of all layers; at 20,000 symbols it is 25 times as much.
LONGEST = 4_000

#: What does not depend on the number of training pairs. `defaults_for` adds the width and the steps.
DEFAULTS: dict[str, Any] = {
    "n_heads": 4, "n_encoder_layers": 2, "n_decoder_layers": 2, "dropout": 0.1, "norm": "pre", "tie": "output",
    "batch_size": 64, "peak_rate": 1e-3, "warmup": 500, "smoothing": 0.1, "clip": 1.0,
}  # fmt: skip


def defaults_for(pairs: int) -> dict[str, Any]:
    """Return the sizes and the schedule for so many training pairs.

    There are 1,500 √(pairs/1000) steps, rounded to hundreds, and 300 at least. The width is 64 below 1,000 pairs, and
    128 from there on. `benchmarks/RESULTS.md` has what this and other choices learn from 300 to 30,000 pairs.

    >>> [defaults_for(n)["steps"] for n in (2, 300, 3_000, 100_000)]
    [300, 800, 2600, 15000]
    """
    d_model = 64 if pairs < 1_000 else 128
    steps = max(300, 100 * round(15 * math.sqrt(pairs / 1_000)))
    return DEFAULTS | {"d_model": d_model, "d_ff": 4 * d_model, "steps": steps}


def load_tsv(
    path: str | Path,
    *,
    unit: Unit = "characters",
    target_unit: Unit | None = None,
    lowercase: bool = False,
    validation: str | Path | None = None,
    test: str | Path | None = None,
) -> Task:
    """Read a file of pairs.

    - path: the file.
    - unit: what one symbol is, "characters" or "words".
    - target_unit: the same for the targets; None takes `unit`.
    - lowercase: True turns sources into lower case, here and when the model is used. Targets stay as they are.
    - validation, test: files of pairs for validation and test; None splits them off, see above.

    Raises: FileNotFoundError when there is no such file; ValueError for an unknown unit; ValueError, with the file and
    the number of the line, when the file is not UTF-8, a line is not source⇥target, a word is one that npattn adds
    itself (``<pad>``, ``<bos>``, ``<eos>``), a text has more than 4,000 symbols, or there are fewer than two different
    sources; ValueError for a source that two of the files hold.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pairs.tsv")
    ...     _ = path.write_text("one\\t1\\ntwo\\t2\\nthree\\t3\\nthree\\tIII\\n")
    ...     task = load_tsv(path)
    >>> task.title, len(task.train), task.validation
    ('4 pairs from pairs.tsv', 3, [Item(source='one', references=('1',))])
    """
    path, lowercase = check_path("path", path), check_flag("lowercase", lowercase)
    target_unit = unit if target_unit is None else target_unit
    check_unit(unit)
    check_unit(target_unit, "target_unit")
    units: tuple[Unit, Unit] = (unit, target_unit)
    given = {"validation": validation, "test": test}
    files = {name: os.path.abspath(check_path(name, file)) for name, file in given.items() if file is not None}
    targets = read_targets(path, units, lowercase)
    parts = {name: read_targets(file, units, lowercase) for name, file in files.items()}
    check_disjoint([(str(path), targets), *((files[name], part) for name, part in parts.items())])
    train, *split = split_sources(targets, has_validation=validation is None, has_test=not files)
    if not train:
        raise ValueError(f"{path}: expected two or more different sources, to train and to validate, got one")
    held_out = {name: hash_order(parts.get(name, sources)) for name, sources in zip(given, split, strict=True)}
    examples = [(source, target) for source in train for target in targets[source]]
    codec = build_codec(examples, unit, target_unit, lowercase=lowercase)
    for part in parts.values():
        targets |= part
    items = {name: [Item(each, tuple(targets[each])) for each in sources] for name, sources in held_out.items()}
    return Task(
        name=str(path),
        title=f"{sum(map(len, targets.values())):,} pairs from {Path(path).name}",
        codec=codec,
        train=[codec.encode_pair(source, target) for source, target in examples],
        validation=items["validation"],
        test=items["test"],
        score_names=("exact match", "error rate"),
        lower_is_better=False,
        options={"unit": unit, "target_unit": target_unit, "lowercase": lowercase, **dict.fromkeys(given), **files},
        defaults=defaults_for(len(examples)),
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


def read_targets(path: str | Path, units: tuple[Unit, Unit], lowercase: bool = False) -> dict[str, list[str]]:
    """Return the different targets of each source of a file, in their order.

    - path: the file.
    - units: what one symbol of source and target is. White space is what they make of it.
    - lowercase: True turns sources into lower case.

    Raises: FileNotFoundError and ValueError, as `load_tsv` does.
    """
    targets: dict[str, dict[str, None]] = {}                  # a dict keeps each target once
    for source, target in read_pairs(path, units):
        source = nfc(source.lower()) if lowercase else source
        targets.setdefault(_respace(source, units[0]), {})[_respace(target, units[1])] = None
    return {source: list(found) for source, found in targets.items()}


def check_disjoint(parts: Sequence[tuple[str, Collection[str]]]) -> None:
    """Raise a ValueError for a source that two of the files hold: a score would count what was learnt by heart."""
    for (first, a), (second, b) in combinations(parts, 2):
        if both := [source for source in b if source in a]:
            raise ValueError(
                f"{second}: expected sources that are not in {first}, got {len(both):,} that are, "
                f"the first is {shown(both[0])}"
            )


def split_sources(
    sources: Iterable[str], *, has_validation: bool = True, has_test: bool = True
) -> tuple[list[str], list[str], list[str]]:
    """Split distinct sources into training, validation and test by the hash of their text.

    - sources: the texts.
    - has_validation, has_test: False leaves that part empty.

    >>> [len(part) for part in split_sources("abcdefghijkl")]
    [10, 1, 1]
    """
    order = hash_order(sources)
    n_validation = -(-len(order) // 20) if has_validation else 0
    held_out = n_validation + (len(order) // 10 if has_test else 0)
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
