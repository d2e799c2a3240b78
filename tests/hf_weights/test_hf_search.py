"""`search_of`: what generation_config.json, or an older config.json, says of a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npattn import CheckpointError
from npattn.hf_weights.search import OTHERS, Search, search_of

PLAIN = {"length_penalty": 1.0, "normalisation": "power", "early_stopping": False, "ending": "open"}


def folder_of(path: Path, **settings: Any) -> Path:
    (path / "generation_config.json").write_text(json.dumps(settings))
    return path


def test_what_is_not_said(tmp_path: Path) -> None:
    wanted = Search(1, None, None, [], PLAIN, {})
    for settings in ({}, {"num_beams": None, "max_length": None, "forced_eos_token_id": None, "bad_words_ids": None}):
        assert search_of(str(folder_of(tmp_path, **settings))) == wanted


def test_what_is_said(tmp_path: Path) -> None:
    said = {"num_beams": 4, "max_length": 512, "forced_bos_token_id": 7, "bad_words_ids": [[3], [4, 5]],
            "length_penalty": 0.5, "early_stopping": "never", "forced_eos_token_id": 2, "eos_token_id": 2}  # fmt: skip
    options = {"length_penalty": 0.5, "normalisation": "power", "early_stopping": "never", "ending": "forced"}
    assert search_of(folder_of(tmp_path, **said)) == Search(4, 511, 7, [[3], [4, 5]], options, {})
    assert search_of(folder_of(tmp_path, **said, max_new_tokens=20)).max_new == 20


def test_an_end_that_is_forced_is_not_among_the_ids(tmp_path: Path) -> None:
    search = search_of(folder_of(tmp_path))
    assert [search.max_len(n) for n in (0, 1, 9)] == [0, 1, 9]
    search = search_of(folder_of(tmp_path, forced_eos_token_id=0))
    assert [search.max_len(n) for n in (0, 1, 9)] == [0, 0, 8]


def test_the_older_form_is_read_without_the_newer_one_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_beams": 3, "max_length": 20}))
    assert search_of(tmp_path) == Search(3, 19, None, [], PLAIN, {})
    assert search_of(folder_of(tmp_path)) == Search(1, None, None, [], PLAIN, {})


def test_what_is_left_out(tmp_path: Path) -> None:
    assert search_of(folder_of(tmp_path, **OTHERS)).left_out == {}
    others = {"no_repeat_ngram_size": 3, "do_sample": True, "min_length": 2, "repetition_penalty": 1.2}
    assert search_of(folder_of(tmp_path, num_beams=2, **others)).left_out == others


def test_damage(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"generation_config\.json: expected a mapping, got list$"):
        search_of(tmp_path)
    with pytest.raises(TypeError, match=r"^path: expected the path of a folder, got 3$"):
        search_of(3)  # type: ignore[arg-type]
