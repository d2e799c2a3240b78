"""The two types that signatures are written in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

#: Any NumPy array. `npattn._internal.checks.shapes` checks shapes at run time, where their axes have names.
Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: Parameters or gradients by name: a plain dict, or `npattn.transformer.Parameters`.
Params: TypeAlias = Mapping[str, Array]
