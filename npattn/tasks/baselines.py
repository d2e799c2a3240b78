"""What a language model is compared with: two compressors, and a model of 5-grams. All in bits per byte of files.

**Compressors**  gzip at its level 9 and xz at its level 6e, as Python has them. `compressed` gives two numbers: the
files one by one, as a language model reads them, and all files as one, where what a file has helps with the next.
Neither compressor has read the training text. Putting it before the files would be no fair comparison: gzip looks
back 32 KiB at most, so nothing would change; and xz would look back to all of it, so it would need the text where a
model needs its parameters alone.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from npattn.tasks.ngram import probabilities, train_ngrams

#: The compressors by name. xz at level 9 would need 670 MiB of memory; up to 8 MiB, level 6 writes as much.
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": partial(gzip.compress, compresslevel=9),
    "xz": partial(lzma.compress, preset=6 | lzma.PRESET_EXTREME),
}


def compressed(name: str, files: Sequence[bytes]) -> tuple[float, float]:
    """Return the bits per byte of compressed files: each file alone, and all in one.

    - name: "gzip" or "xz".
    - files: the contents of the files.

    >>> alone, in_one = compressed("gzip", [b"to be or not to be " * 9] * 2)
    >>> 1.5 < alone < 2, 0.5 < in_one < 1
    (True, True)
    """
    compress, n = COMPRESSORS[name], sum(map(len, files))
    return sum(8 * len(compress(content)) for content in files) / n, 8 * len(compress(b"".join(files))) / n


def five_gram_bits(train: Sequence[bytes], files: Sequence[bytes]) -> float:
    """Return the bits per byte of files by the 5-gram model of other files.

    - train: the contents of the files to count in.
    - files: the contents of the files to measure on.
    """
    return float(-np.log2(probabilities(train_ngrams(train, 5), files)).mean())
