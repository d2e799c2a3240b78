"""The two types that most signatures use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

#: Any NumPy array. Shapes are checked at run time, by `npattn._internal.checks.shapes`.
Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: Parameters or gradients by name: a plain dict, or `npattn.transformer.Parameters`.
Params: TypeAlias = Mapping[str, Array]
