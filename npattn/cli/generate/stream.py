"""Ids that come one by one, as pieces of text: no letter in parts, and nothing of a text that ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: What a decoder writes for a part of a letter.
PART = "�"


class TextStream:
    """Turns ids into pieces of text. Joined, the pieces are the text that follows the prompt, up to a stop text.

    - decode: returns the text of ids.
    - prompt: the ids before the first piece. A decoder may treat the first id of a text in its own way, so the ids of a
      piece are decoded with those of the piece before.
    - stops: texts; the first of them that comes up ends the stream, and is no part of it.

    >>> stream = TextStream(lambda ids: bytes(ids).decode(errors="replace"), b"caf", ["!!"])
    >>> [stream.push(id) for id in "é! so!!".encode()], stream.rest(), stream.is_over
    (['', 'é', '', '! ', 's', 'o', '', ''], '', True)
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int], stops: Sequence[str]) -> None:
        self.decode, self.ids, self.stops = decode, list(prompt), stops
        self.before, self.done = 0, len(self.ids)             # where the last piece begins, and where it ends
        self.held = ""                                        # it could be the beginning of a stop text
        self.is_over = False

    def push(self, id_: int) -> str:
        """Return the piece of text that is certain after one more id; it may be empty."""
        self.ids.append(id_)
        text = self.new_text()
        if text.endswith(PART):
            return ""
        self.before, self.done = self.done, len(self.ids)
        return self.released(text)

    def rest(self) -> str:
        """Return what was held back, at the end."""
        return self.released(self.new_text()) + self.held

    def new_text(self) -> str:
        """Return the text of the ids that are in no piece yet."""
        old = self.decode(self.ids[self.before : self.done])
        return self.decode(self.ids[self.before :])[len(old) :]

    def released(self, text: str) -> str:
        """Return what cannot belong to a stop text, and hold the rest."""
        text = self.held + text
        ends = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        self.is_over = self.is_over or bool(ends)
        if ends:
            self.held = ""
            return text[: min(ends)]
        held = max((n for stop in self.stops for n in range(len(stop)) if text.endswith(stop[:n])), default=0)
        self.held = text[len(text) - held :]
        return text[: len(text) - held]
