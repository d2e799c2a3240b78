"""Edges of `read_config`: very many layers, windows that are switched off, and files of configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npattn.hf_weights.configs import read_config
from npattn.hf_weights.folder import read_json
from npattn.transformer.config import MOST_LAYERS

QWEN: dict[str, Any] = {
    "model_type": "qwen3", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 1,
}  # fmt: skip


def test_as_many_layers_as_there_may_be() -> None:
    assert read_config(QWEN | {"num_hidden_layers": MOST_LAYERS}).n_layers == MOST_LAYERS
    for more in (1, 10**9):
        with pytest.raises(ValueError, match=r"^n_layers: expected at most 10,000, got 10,?0"):
            read_config(QWEN | {"num_hidden_layers": MOST_LAYERS * more + 1})


def test_a_window_that_is_switched_off() -> None:
    off = {"use_sliding_window": False, "sliding_window": 4, "max_window_layers": 1}
    config = read_config(QWEN | off)
    assert config.window is None and config.layer_types == ("full_attention",) * 3
    config = read_config(QWEN | off | {"use_sliding_window": True})
    assert config.window == 4
    assert config.layer_types == ("full_attention", "sliding_attention", "sliding_attention")
    with pytest.raises(ValueError, match=r"^window: expected a number for sliding attention, got None$"):
        read_config(QWEN | off | {"layer_types": ["full_attention", "sliding_attention", "full_attention"]})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_configuration_in_unicode(tmp_path: Path, encoding: str) -> None:
    """JSON says which encodings there are; they do not depend on the machine's."""
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": "模型"}, ensure_ascii=False), encoding=encoding)
    assert read_json(tmp_path / "config.json") == {"_name_or_path": "模型"}
