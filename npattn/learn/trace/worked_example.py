"""The arguments of the worked example in a docstring, so that a trace shows the numbers that the text explains."""

from __future__ import annotations

import copy
import doctest
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from npattn.attention import v5_cross_attention
from npattn.learn.trace.run import docstring_of, source_function

#: The example of version 5 has one query. The second, 0, weighs all inputs alike, as in versions 4 and 6. Version 6
#: compares its dW_V, dW_K and dX with those of version 5 for one query, so the docstring keeps one.
QUERIES, COTANGENT = np.array([[0.0, 2 * np.log(3), 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), np.array([[1.0], [1.0]])


def worked_example(forward: Callable[..., Any], backward: Callable[..., Any]) -> tuple[inspect.BoundArguments, Any]:
    """Return the arguments of forward in the example of its module, and dY; None for dY if backward is not called.

    Raises ValueError if the example does not call forward.
    """
    calls: dict[str, tuple[Any, ...]] = {}

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.setdefault(function.__name__, copy.deepcopy((args, kwargs)))   # a generator draws in the call
            return function(*args, **kwargs)

        return call

    module = vars(sys.modules[forward.__module__])
    space = module | {each.__name__: noted(module[each.__name__]) for each in (forward, backward)}
    for line in doctest.DocTestParser().get_examples(docstring_of(source_function(forward))):
        if len(calls) < 2:                                    # until forward and backward have been called
            exec(line.source, space)
    if forward.__name__ not in calls:
        raise ValueError(f"{forward.__module__}: its docstring has no example that calls {forward.__name__}")
    args, kwargs = calls[forward.__name__]
    bound = inspect.signature(forward).bind(*args, **kwargs)
    dY = calls[backward.__name__][0][0] if backward.__name__ in calls else None
    if module is vars(v5_cross_attention):
        bound.arguments["Q"], dY = QUERIES.copy(), COTANGENT.copy()
    return bound, dY
