"""Plain text for a language model: the bytes of files, by default of Python's own standard library.

A language model predicts every byte from the bytes before it. Its ids are the 256 values of a byte, and `BEGIN` = 256,
which stands before the first byte of each file. As a target it does not count: a score is over the bytes alone. No byte
is changed, so any file will do, in any encoding and with any ends of lines.

**Split**  Equal files count once, and an empty file not at all. The different contents are sorted by their
hash; their names and their order do not matter. Of 20 files or more, the last 10 % (rounded down) are for test, the 5 %
before them (rounded up) for validation and the rest for training, so nothing of a held-out file is trained on. Fewer
files are cut instead: each by its bytes, in the same way.

**Training**  The files follow each other in one stream. An epoch cuts it into rows of `context` bytes, from a random
place on, and each batch has some of them in random order.

**Scores**  A held-out file is read through windows of `context` bytes. Each but the first begins in the middle of the
one before it, and only the bytes of its second half count. So each byte counts once, and the model sees at least half a
window before it, but at the beginning of a file. The score is the mean of −log₂ p, p the probability of the byte that
stands there: the bits per byte that an arithmetic coder would write with these probabilities.

**Standard library**  Its `.py` files, without tests, and without `encodings` and `pydoc_data`: these hold tables and
long texts that are much alike, which would help a model that has seen one of them with the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array, check_path, check_size, shown

#: The id that stands before each file, and fills short rows. It is no byte.
BEGIN = 256

#: The longest row. Each attention holds N² scores for each head and row, and a step keeps those of all layers.
LONGEST = 4_096

#: From so many files on, whole files are held out.
WHOLE_FILES = 20

#: Folders of the standard library that are left out.
LEFT_OUT = {"test", "tests", "idle_test", "encodings", "pydoc_data", "site-packages", "dist-packages", "__pycache__"}

DEFAULTS: dict[str, Any] = {
    "d_model": 128, "n_layers": 4, "n_heads": 4, "d_ff": 352, "dropout": 0.0,
    "batch_size": 8, "steps": 6_000, "peak_rate": 3e-3, "warmup": 100, "smoothing": 0.0, "clip": 1.0,
    "validation_items": 200,
}  # fmt: skip


class Bytes:
    """Text to ids and back: the bytes of its UTF-8, after `BEGIN`.

    >>> codec = Bytes()
    >>> codec.encode("né")
    [256, 110, 195, 169]
    >>> codec.decode([110, 195, 169])
    'né'
    """

    def encode(self, text: str) -> list[int]:
        """Return `BEGIN` and the bytes of a text.

        - text: any text. Surrogates, which a command line has for bytes that are no UTF-8, become these bytes again.
        """
        return [BEGIN, *text.encode("utf-8", "surrogateescape")]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids. `BEGIN` is left out; bytes that are no UTF-8 become U+FFFD.

        - ids: integers from 0 to 256.
        """
        return bytes(i for i in ids if i != BEGIN).decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        """Return what run.json holds of it."""
        return {"unit": "bytes"}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Bytes:
        """Make a codec from its fields. Raises ValueError when they are wrong.

        - fields: what `to_json` returned.
        """
        if fields != cls().to_json():
            raise ValueError(f"codec: expected {cls().to_json()}, got {shown(fields)}")
        return cls()


class Window(NamedTuple):
    """A part of a held-out file."""

    ids: Array                                                # (N + 1,) at most: every id but the first is a target
    first: int                                                # the first target that counts


class TextBatches:
    """An endless sequence of training batches. A batch depends only on the arguments below and on its step.

    ``batches[step]`` is a tuple of one array, ids (B, context + 1). ``len(batches)`` batches make one epoch. The last
    batch of an epoch may have fewer rows; a stream that is shorter than one row makes a shorter row.

    - stream: the ids (L,) of all training files, two or more.
    - context: N, the ids of a row that are predicted.
    - batch_size: rows in a batch.
    - seed: an integer from 0; it decides where rows begin, and their order.

    >>> batches = TextBatches(np.arange(12), context=3, batch_size=2)
    >>> len(batches), batches[0][0].shape
    (2, (2, 4))
    """

    def __init__(self, stream: Array, context: int, batch_size: int, *, seed: int = 0) -> None:
        self.stream, self.batch_size, self.seed = stream, batch_size, seed
        self.width = min(context, len(stream) - 1)
        self.rows, self._rest = divmod(len(stream) - 1, self.width)
        self._planned = (0, self.plan(0))

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __getitem__(self, step: int) -> tuple[Array]:
        epoch, position = divmod(step, len(self))
        if self._planned[0] != epoch:
            self._planned = epoch, self.plan(epoch)
        begins = self._planned[1][position * self.batch_size :][: self.batch_size]
        return (self.stream[begins[:, None] + np.arange(self.width + 1)].astype(np.int64),)

    def plan(self, epoch: int) -> Array:
        """Return where the rows of one epoch begin, in the order of the batches.

        - epoch: its number, from 0.
        """
        rng = np.random.default_rng([self.seed, epoch])
        begin = rng.integers(self._rest + 1)
        return begin + self.width * rng.permutation(self.rows)


@dataclass(frozen=True)
class TextTask:
    """Files to train a language model on, and files to measure it on. `load_text` makes one.

    - title: one line that says what the text is.
    - parts: the contents of the files for training, validation and test, or of the parts of them.
    - context: N, the most bytes of a row.
    - options: `load_text(**options)` makes the same task again.
    - validation, test: the windows of the held-out files, in a fixed random order.
    """

    title: str
    parts: tuple[list[bytes], list[bytes], list[bytes]]
    context: int
    options: dict[str, Any]
    validation: Sequence[Window]
    test: Sequence[Window]

    #: The name that `load_task` takes, the class of the model, and what any task has.
    name = "text"
    model = "LanguageModel"
    codec = Bytes()
    score_names = ("bits per byte", "byte error rate")
    defaults = DEFAULTS

    @property
    def fingerprint(self) -> str:
        """A hash of all files and of the context, as 16 hexadecimal digits. A run resumes only when it is the same."""
        digests = [[hashlib.blake2b(content).hexdigest() for content in part] for part in self.parts]
        return hashlib.blake2b(json.dumps([self.context, digests]).encode(), digest_size=8).hexdigest()

    def batches(self, batch_size: int, seed: int) -> TextBatches:
        """Return the batches of a training.

        - batch_size: rows in a batch.
        - seed: decides where rows begin, and their order.
        """
        return TextBatches(np.concatenate(list(map(ids_of, self.parts[0]))), self.context, batch_size, seed=seed)

    def with_codec(self, codec: Bytes) -> TextTask:
        """Return the task itself: there is one codec of bytes.

        - codec: the codec of a model.
        """
        return self

    def score(self, measured: Iterable[tuple[float, int, int]]) -> dict[str, float]:
        """Return the scores of measured windows by name.

        - measured: bits, wrong guesses and bytes that count, of each window.
        """
        bits, wrong, count = (sum(column) for column in zip(*measured, strict=True))
        return dict(zip(self.score_names, (bits / count, wrong / count), strict=True))

    def is_better(self, scores: Sequence[float], than: Sequence[float]) -> bool:
        """Return whether the scores of one model are better than those of another: fewer bits, then fewer errors.

        - scores, than: two scores each, in the order of `score_names`.
        """
        return tuple(scores) < tuple(than)


def load_text(*, files: Sequence[str | os.PathLike[str]] | None = None, context: int = 256) -> TextTask:
    """Read the files to train a language model on.

    - files: paths of files; None for the source of Python's standard library.
    - context: N, the most bytes from which the next one is predicted, 1 to 4,096.

    Raises FileNotFoundError when there is no such file, IsADirectoryError for a folder, OSError for a file that cannot
    be read; ValueError for fewer than two bytes in all, and for no file; TypeError for what is no path.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ten.txt")
    ...     _ = path.write_text("0123456789")
    ...     task = load_text(files=[path], context=4)
    >>> task.parts, isinstance(task, TextTask)
    (([b'01234567'], [b'8'], [b'9']), True)
    """
    context = check_size("context", context, least=1)
    if context > LONGEST:
        raise ValueError(f"context: expected at most {LONGEST:,}, got {context:,}")
    if files is None:
        folder = Path(sysconfig.get_paths()["stdlib"])
        paths, title = list(library(folder)), f"Python {sysconfig.get_python_version()}'s standard library"
    else:
        if isinstance(files, str | os.PathLike) or not len(files):
            raise ValueError(f"files: expected the paths of one file or more, got {shown(files)}")
        paths = [check_path("files", path) for path in files]
        title = paths[0].name if len(paths) == 1 else f"{len(paths):,} files"
    parts = split(map(content_of, paths))
    if not parts[0]:
        raise ValueError(f"files: expected two bytes or more, to train and to validate on, got {title} without them")
    validation, test = (shuffled([w for content in part for w in windows(content, context)]) for part in parts[1:])
    options = {"files": None if files is None else [str(path.absolute()) for path in paths], "context": context}
    return TextTask(title, parts, context, options, validation, test)


def library(folder: Path) -> Iterator[Path]:
    """Yield the files of a standard library that are text for training."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - LEFT_OUT)          # os.walk visits what is left
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                yield Path(root, name)


def content_of(path: Path) -> bytes:
    """Return the bytes of a file. Raises an OSError that says what was expected."""
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a file of text, got a folder; give its files one by one")
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a file of text, found no such file")
    return path.read_bytes()


def split(contents: Iterable[bytes]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Divide contents, or the bytes of each of them, into training, validation and test.

    >>> split([b"abcdefghij" * 2, b"", b"k"])
    ([b'abcdefghijabcdefg'], [b'k', b'h'], [b'ij'])
    """
    files = sorted(set(contents) - {b""}, key=lambda content: hashlib.blake2b(content, digest_size=16).digest())
    if len(files) >= WHOLE_FILES:
        n_train, n_rest = sizes(len(files))
        return files[:n_train], files[n_train:n_rest], files[n_rest:]
    parts: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
    for content in files:
        n_train, n_rest = sizes(len(content))
        for part, piece in zip(parts, (content[:n_train], content[n_train:n_rest], content[n_rest:]), strict=True):
            part.extend([piece] * bool(piece))
    return parts


def sizes(n: int) -> tuple[int, int]:
    """Return where validation and test begin among n things: 5 % of them, rounded up, and 10 %, rounded down.

    >>> sizes(100), sizes(20), sizes(2)
    ((85, 90), (17, 18), (1, 2))
    """
    n_rest = n - n // 10
    return n_rest - -(-n // 20), n_rest


def ids_of(content: bytes) -> Array:
    """Return `BEGIN` and the bytes of a file as ids of 16 bits, which take a quarter of the memory of usual ones."""
    return np.concatenate([np.array([BEGIN], np.uint16), np.frombuffer(content, np.uint8)])


def windows(content: bytes, context: int) -> Iterator[Window]:
    """Yield the windows of a held-out file: each byte counts in exactly one of them.

    >>> [(window.ids.tolist(), window.first) for window in windows(b"abcdef", 4)]
    [([256, 97, 98, 99, 100], 0), ([98, 99, 100, 101, 102], 2)]
    """
    ids, step = ids_of(content), max(context // 2, 1)
    yield Window(ids[: context + 1], 0)
    for end in range(context + 1, len(ids), step):            # the targets from `end` on count
        begin = end + step - context - 1
        yield Window(ids[begin : end + step], end - begin - 1)


def shuffled(found: Iterable[Window]) -> list[Window]:
    """Return windows in a fixed random order, so that the first of them are a fair sample."""
    listed = list(found)
    return [listed[i] for i in np.random.default_rng(0).permutation(len(listed))]
