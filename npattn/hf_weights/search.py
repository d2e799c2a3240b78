"""How the `generate` of Hugging Face would use the model in a folder, as options of our searches and of `generate`."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from npattn._internal.checks import shown
from npattn._internal.files import CheckpointError
from npattn.hf_weights.folder import folder_path, read_json
from npattn.language_model import LanguageModelConfig

#: Settings that are not here, with the values that change nothing; None changes nothing either.
OTHERS: dict[str, Any] = {
    "begin_suppress_tokens": None, "diversity_penalty": 0, "do_sample": False, "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1, "exponential_decay_length_penalty": None, "min_length": 0, "min_new_tokens": 0,
    "no_repeat_ngram_size": 0, "num_beam_groups": 1, "renormalize_logits": False, "repetition_penalty": 1,
    "sequence_bias": None, "suppress_tokens": None,
}  # fmt: skip


class Search(NamedTuple):
    """A search.

    - beam: the number of beams; 1 is greedy search.
    - max_new: the most ids of a target, with the end; None if the folder does not say.
    - first: forced_bos_id of `npattn.greedy_search` and `npattn.beam_search`.
    - words: their bad_words_ids.
    - options: what `npattn.beam_search` takes besides.
    - left_out: settings of the folder that these searches do not have.
    """

    beam: int
    max_new: int | None
    first: int | None
    words: list[list[int]]
    options: dict[str, Any]
    left_out: dict[str, Any]

    def max_len(self, max_new: int) -> int:
        """Return max_len of the searches for so many ids: an end that is forced is not among them."""
        return max(0, max_new - (self.options["ending"] == "forced"))


def search_of(path: str | os.PathLike[str]) -> Search:
    """Return the search that generation_config.json describes, or an older config.json.

    - path: the folder.

    Raises CheckpointError for what is no JSON. The searches check the values.
    """
    given = _settings(path)
    length = given.get("max_length")                          # it counts the start token too
    options = {
        "length_penalty": given.get("length_penalty", 1.0), "normalisation": "power",
        "early_stopping": given.get("early_stopping", False),
        "ending": "forced" if "forced_eos_token_id" in given else "open",
    }  # fmt: skip
    return Search(
        given.get("num_beams", 1), given.get("max_new_tokens", None if length is None else length - 1),
        given.get("forced_bos_token_id"), given.get("bad_words_ids", []), options,
        {key: given[key] for key, value in OTHERS.items() if key in given and given[key] != value},
    )  # fmt: skip


def end_ids(path: str | os.PathLike[str] | None, config: LanguageModelConfig) -> list[int]:
    """Return the ids that end a text: those of generation_config.json, or of the model if that names none.

    A model for conversations often ends its answers with another id than the one that its config.json names.

    - path: the folder; None for a model that is in none.
    - config: of the model.

    Raises CheckpointError for what is no JSON, and for what are no ids.
    """
    found = config.eos_id if path is None else _settings(path).get("eos_token_id", config.eos_id)
    ids = [] if found is None else list(found) if isinstance(found, list | tuple) else [found]
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in ids):
        raise CheckpointError(f"{path}: expected an eos_token_id that is an id or a list of ids, got {shown(found)}")
    return ids


def _settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what generation_config.json says, or without that file config.json."""
    folder = folder_path(path)
    newer = folder / "generation_config.json"
    settings = read_json(newer if newer.exists() else folder / "config.json")
    return {key: value for key, value in settings.items() if value is not None}
