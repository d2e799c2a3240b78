"""`npattn predict FOLDER`: an encoder and decoder in a folder as Hugging Face keeps them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from npattn import beam_search, greedy_search
from npattn._internal.checks import Array, shown
from npattn.cli.predict.texts import numbered_texts
from npattn.cli.terminal import Console, command_line, print_message
from npattn.hf_weights.search import Search, search_of
from npattn.hf_weights.text import load_text_folder
from npattn.transformer import Transformer

#: A target of a folder has at most this many ids more than twice its source.
LONGER = 50


def run_folder(args: argparse.Namespace, console: Console) -> int:
    """Print what an encoder and decoder of Hugging Face answers to each text."""
    loaded = load_text_folder(args.model)
    model, status = loaded.model, 0
    if not isinstance(model, Transformer):
        wanted = command_line("generate", args.model, "PROMPT")
        raise ValueError(f"{args.model}: expected an encoder and decoder, got a language model: {wanted}")
    most = sys.maxsize if model.config.max_length is None else model.config.max_length

    def check(source: str, name: str) -> None:
        if (count := len(loaded.encode(source))) > most:
            raise ValueError(f"{name}: expected at most {most} ids, got {count}")

    search = search_of(args.model)
    if search.left_out:
        listed = ", ".join(f"{name}={shown(value)}" for name, value in search.left_out.items())
        print_message(f"{args.model}: left out of the search: {listed}")
    for text in numbered_texts(args.texts, check):
        target = ""
        if text.source.strip() and not text.error:
            src = np.array([loaded.encode(text.source)])
            max_new = 2 * src.size + LONGER if search.max_new is None else search.max_new
            target = loaded.decode(found_ids(model, src, search, min(max_new, most), args.beam or search.beam))
        status = 1 if text.error else status
        console.data(" ".join(target.split()))
    return status


def found_ids(model: Transformer, src: Array, search: Search, max_new: int, beam: int) -> list[int]:
    """Return the best target of one source."""
    max_len = search.max_len(max_new)
    words: dict[str, Any] = {"bad_words_ids": search.words, "forced_bos_id": search.first}
    if beam == 1:
        return greedy_search(model, src, max_len, **words)[0]
    return beam_search(model, src, beam, max_len, **words, **search.options)[0][0].ids
