"""The small encoder–decoders of Hugging Face that golden numbers were made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from npattn import Transformer
from npattn._internal.checks import Array
from npattn.hf_weights import load_transformer

GOLDEN = Path(__file__).parents[1] / "golden" / "encoder_decoders.npz"


def contents(case: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the configuration and the weights, multiples of 1/64."""
    start = f"{case}/state/"
    with np.load(GOLDEN) as archive:
        state = {key.removeprefix(start): archive[key] / 64 for key in archive.files if key.startswith(start)}
        return json.loads(str(archive[f"{case}/config"])), state


def encoder_decoder(case: str) -> Transformer:
    return load_transformer(*contents(case))
