"""The arguments of the worked example in a docstring, so that a trace shows the numbers that the text explains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from npattn.cli.check.own_pair import bind
from npattn.cli.explain.topics import Topic, topics
from npattn.cli.terminal import UsageError
from npattn.learn.trace.worked_example import worked_example


class Example(NamedTuple):
    """The arguments of `npattn.trace`."""

    pair: tuple[Callable[..., Any], Callable[..., Any]]
    args: tuple[Any, ...]
    dY: Any
    kwargs: dict[str, Any]


def targets() -> dict[str, Topic]:
    """Return the topics that are one forward and its backward."""
    return {name: topic for name, topic in topics().items() if is_pair(topic)}


def is_pair(topic: Topic) -> bool:
    names = [getattr(member, "__name__", "") for member in topic.members]
    return len(names) == 2 and names[1] in ("backward", f"{names[0]}_backward")


def example(topic: Topic, given: Mapping[str, Any]) -> Example:
    """Return the worked example of a topic. Arguments that are given by name replace its own; then dY is None."""
    forward, backward = topic.members
    try:
        bound, dY = worked_example(forward, backward)
    except ValueError as error:
        raise UsageError(str(error)) from None
    named = {**bound.arguments, **given}
    named.pop("dY", None)
    args, kwargs = bind(named, forward)
    fixed = {name: value for name, value in zip(named, args, strict=False) if hasattr(value, "_fields")}
    n = list(named).index(next(iter(fixed))) if fixed else len(args)   # frequencies, for instance, have no gradient
    more = dict(zip([*named][n:], args[n:], strict=False)) | kwargs
    return Example((forward, backward), args[:n], None if given else dY, more)
