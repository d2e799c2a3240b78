"""The arguments of the worked example in a docstring, so that a trace shows the numbers that the text explains."""

from __future__ import annotations

import copy
import doctest
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from npattn.cli.check.own_pair import bind
from npattn.cli.explain.topics import Topic, docstring_of, topics
from npattn.cli.terminal import UsageError


class Example(NamedTuple):
    """The arguments of `npattn.trace`."""

    pair: tuple[Callable[..., Any], Callable[..., Any]]
    args: tuple[Any, ...]
    dY: Any
    kwargs: dict[str, Any]


#: The example of version 5 has one query. The second, 0, weighs all inputs alike, as in versions 4 and 6: a trace then
#: shows that the rows of A, and the gradients of two queries, differ. The docstring does without it, since version 6
#: compares its dW_V, dW_K and dX with those of version 5 for one query.
SECOND_QUERY: dict[str, Mapping[str, Any]] = {
    "v5": {"Q": np.array([[0.0, 2 * np.log(3), 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), "dY": np.array([[1.0], [1.0]])},
}


def targets() -> dict[str, Topic]:
    """Return the topics that are one forward and its backward."""
    return {name: topic for name, topic in topics().items() if is_pair(topic)}


def is_pair(topic: Topic) -> bool:
    names = [getattr(member, "__name__", "") for member in topic.members]
    return len(names) == 2 and names[1] in ("backward", f"{names[0]}_backward")


def example(topic: Topic, given: Mapping[str, Any]) -> Example:
    """Return the worked example of a topic. Arguments that are given by name replace its own; then dY is None."""
    forward, backward = topic.members
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.setdefault(function.__name__, copy.deepcopy((args, kwargs)))   # a generator draws in the call
            return function(*args, **kwargs)

        return call

    space = vars(topic.module) | {function.__name__: noted(function) for function in topic.members}
    for line in doctest.DocTestParser().get_examples(docstring_of(topic.module)):
        if len(calls) < 2:                                    # until forward and backward have been called
            exec(line.source, space)
    if forward.__name__ not in calls:
        raise UsageError(f"{topic.name}: its docstring has no example that calls {forward.__name__}")
    args, kwargs = calls[forward.__name__]
    dY = calls[backward.__name__][0][0] if backward.__name__ in calls else None
    extra = dict(SECOND_QUERY.get(topic.name, {}))
    dY = None if given else extra.pop("dY", dY)
    named = {**inspect.signature(forward).bind(*args, **kwargs).arguments, **extra, **given}
    named.pop("dY", None)
    args, kwargs = bind(named, forward)
    fixed = {name: value for name, value in zip(named, args, strict=False) if hasattr(value, "_fields")}
    n = list(named).index(next(iter(fixed))) if fixed else len(args)   # frequencies, for instance, have no gradient
    return Example((forward, backward), args[:n], dY, dict(zip([*named][n:], args[n:], strict=False)) | kwargs)
