"""Checks of arguments. Every other folder imports them from here.

- `shapes` declares the arguments of a forward/backward pair and checks them in one line.
- `arrays` and `scalars` check single arguments.
- `named_arrays` compares mappings of names to arrays.
- `types` has the types that signatures use.
"""

from npattn._internal.checks.arrays import (
    check_cache,
    check_cotangent,
    check_floating,
    check_gradient_of,
    check_ids,
    check_integers,
    is_array,
    kind_of,
)
from npattn._internal.checks.named_arrays import Layout, Spec, differences, layout_of
from npattn._internal.checks.scalars import (
    Interval,
    check_choice,
    check_dtype,
    check_flag,
    check_generator,
    check_integer,
    check_number,
    check_path,
    check_random,
    check_room,
    check_size,
    shown,
)
from npattn._internal.checks.shapes import Shapes, check_broadcast, document
from npattn._internal.checks.types import Array, Params

__all__ = [
    "Array",
    "Interval",
    "Layout",
    "Params",
    "Shapes",
    "Spec",
    "check_broadcast",
    "check_cache",
    "check_choice",
    "check_cotangent",
    "check_dtype",
    "check_flag",
    "check_floating",
    "check_generator",
    "check_gradient_of",
    "check_ids",
    "check_integer",
    "check_integers",
    "check_number",
    "check_path",
    "check_random",
    "check_room",
    "check_size",
    "differences",
    "document",
    "is_array",
    "kind_of",
    "layout_of",
    "shown",
]
