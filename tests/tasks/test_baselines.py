"""The 5-gram model against a slow one by the formula, and the compressors."""

from __future__ import annotations

import gzip
import lzma
import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.tasks.baselines import compressed, five_gram_bits
from npattn.tasks.ngram import BEGIN, probabilities, train_ngrams
from support.calls import examples

Gram = tuple[int, ...]


def padded(content: bytes, n: int) -> list[int]:
    return [BEGIN] * (n - 1) + list(content)


class Slow:
    """Interpolated Kneser–Ney as the docstring of `npattn.tasks.ngram` has it, with dictionaries."""

    def __init__(self, files: list[bytes], n: int) -> None:
        grams = [tuple(padded(f, n)[i : i + n]) for f in files for i in range(len(f))]
        self.counts: dict[int, Counter[Gram]] = {n: Counter(grams)}
        for m in range(n - 1, 0, -1):
            self.counts[m] = Counter(gram[1:] for gram in self.counts[m + 1])   # in how many contexts, each once
        self.p = cache(self._p)

    def _p(self, gram: Gram) -> float:
        if not gram:
            return 1 / 256
        counts, h = self.counts[len(gram)], gram[:-1]
        after = {g: c for g, c in counts.items() if g[:-1] == h}
        if not after:
            return self.p(gram[1:])
        values = list(counts.values())
        ones, twos = values.count(1), values.count(2)
        D = ones / (ones + 2 * twos) if ones else 0.0
        total = sum(after.values())
        return max(counts[gram] - D, 0) / total + D * len(after) / total * self.p(gram[1:])


texts = st.binary(min_size=1, max_size=12).map(lambda content: bytes(b % 3 for b in content))


@given(st.lists(texts, min_size=1, max_size=3), st.lists(texts, min_size=1, max_size=2), st.integers(1, 4))
@examples(20)
def test_probabilities_are_those_of_the_formula(train: list[bytes], files: list[bytes], n: int) -> None:
    slow = Slow(train, n)
    expected = [slow.p(tuple(padded(f, n)[i : i + n])) for f in files for i in range(len(f))]
    np.testing.assert_allclose(probabilities(train_ngrams(train, n), files), expected, rtol=1e-12)


@pytest.mark.parametrize("before", [b"", b"abra", b"bra", b"xyzz", b"\xff\x00"])
def test_probabilities_of_all_bytes_add_up_to_1(before: bytes) -> None:
    orders = train_ngrams([b"abracadabra", b"\xff\x00\xff\x00a"], 5)
    total = sum(probabilities(orders, [before + bytes([w])])[-1] for w in range(256))
    assert total == pytest.approx(1, rel=1e-12)


def test_a_text_of_one_letter_has_no_discount() -> None:
    """c(aa) = 4 and c(begin a) = 1, so D₂ = 1; after one letter alone D₁ = 0, as no letter has one context only."""
    first, second = train_ngrams([b"aaaaa"], 2)
    assert (first.discount, second.discount) == (0.0, 1.0)
    assert probabilities([first, second], [b"aab"]).tolist() == [1.0, 1.0, 0.0]


def test_the_longest_gram_fits_its_number() -> None:
    files = [bytes([255]) * 9 + bytes(range(248, 256))]
    slow = Slow(files, 7)
    expected = [slow.p(tuple(padded(files[0], 7)[i : i + 7])) for i in range(len(files[0]))]
    np.testing.assert_allclose(probabilities(train_ngrams(files, 7), files), expected, rtol=1e-12)


def test_what_cannot_be_counted() -> None:
    for n, message in ((8, "n: expected at most 7, got 8"), (0, "n: expected 1 or more, got 0")):
        with pytest.raises(ValueError, match=f"^{message}$"):
            train_ngrams([b"a"], n)
    for files in ([], [b"", b""]):
        with pytest.raises(ValueError, match=r"^files: expected one byte or more, got none$"):
            train_ngrams(files)
    assert len(train_ngrams([b"a"])) == 5 and probabilities(train_ngrams([b"ab"]), []).tolist() == []


def test_bits_of_the_5_gram_model() -> None:
    train, files = [b"to be or not to be"], [b"not be", b"or"]
    p = probabilities(train_ngrams(train, 5), files)
    assert five_gram_bits(train, files) == pytest.approx(-sum(map(math.log2, p)) / 8, rel=1e-12)
    assert five_gram_bits(train, [b"to be"]) < five_gram_bits(train, [b"eb ot"])


def test_compressors_alone_and_all_in_one() -> None:
    files = [b"to be or not to be " * 20, b"that is the question " * 20, b"to be or not to be " * 20]
    n = sum(map(len, files))
    for name, compress in (
        ("gzip", lambda c: gzip.compress(c, 9)), ("xz", lambda c: lzma.compress(c, preset=6 | lzma.PRESET_EXTREME)),
    ):  # fmt: skip
        alone, in_one = compressed(name, files)
        assert alone == sum(8 * len(compress(f)) for f in files) / n
        assert in_one == 8 * len(compress(b"".join(files))) / n < alone
