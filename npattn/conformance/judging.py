"""One case, one implementation: call it, look at what came back, and measure it in units of its bounds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.conformance.bounds import PRECISIONS
from npattn.conformance.faults import FAULTS
from npattn.conformance.planting import plant

if TYPE_CHECKING:
    from npattn.conformance.case import Case

#: What is passed by position, in this order; everything else goes by name.
POSITIONAL = {
    "attention": ("Q", "K", "V"),
    "rotary": ("X",),
    "softmax": ("E",),
    "layer_norm": ("X", "gamma", "beta"),
    "rms_norm": ("X", "gamma"),
    "cross_entropy": ("logits", "targets"),
    "gelu": ("X",),
    "swiglu": ("X",),
    "embedding": ("ids", "W_E"),
    "adam": ("p", "gradients"),
}
FRAMEWORKS = ("numpy", "torch", "jax")


class NotOffered(Exception):
    """The implementation lacks what the case needs."""


class Nonsense(Exception):
    """What came back is no answer, whatever its numbers."""


class Outcome(NamedTuple):
    """What one case found.

    `status` is "passed", "failed" or "skipped". `errors` has the largest error of the output and of each gradient in
    units of its verdict, `tightness` the same in units of the probabilistic bound. `message` says what else is to say.
    """

    case: str
    status: str
    errors: dict[str, float]
    tightness: dict[str, float]
    message: str = ""

    @property
    def worst(self) -> float:
        """Return the largest error in units of its verdict; 0 where nothing was measured."""
        return max(self.errors.values(), default=0.0)


class Call(NamedTuple):
    """An implementation, and how to call it."""

    forward: Callable[..., Any]
    backward: Callable[..., Any] | None = None
    framework: str = "numpy"
    accumulate: str | None = None


def examine(case: Case, call: Call) -> Outcome:
    """Call the implementation on a case and measure what it returns."""
    try:
        answer = answer_of(case, call)
    except NotOffered as reason:
        return Outcome(case.name, "skipped", {}, {}, str(reason))
    except Nonsense as reason:
        return Outcome(case.name, "failed", {}, {}, str(reason))
    return measure(case, answer, call.accumulate)


def measure(case: Case, answer: Mapping[str, Array], accumulate: str | None = None) -> Outcome:
    """Compare an answer, arrays by name, with the right one."""
    errors = case.errors(answer, accumulate)
    tightness = case.errors(answer, accumulate, tightness=True)
    if all(error <= 1 for error in errors.values()):
        return Outcome(case.name, "passed", errors, tightness, not_there(case, answer))
    seen = like_faults(case, answer, accumulate)
    message = "; or ".join(FAULTS[case.of][name].says for name in seen[:3])
    if not message:
        wrong = [name for name, error in errors.items() if error > 1]
        message = ", ".join(f"{title(name)} is {'NaN' if np.isnan(answer[name]).any() else 'wrong'}" for name in wrong)
    return Outcome(case.name, "failed", errors, tightness, message)


def not_there(case: Case, answer: Mapping[str, Array]) -> str:
    """Say which parts of the answer were not given."""
    missing = [name for name in case.answer if name not in answer]
    if missing and missing == list(case.gradients):
        return "no gradients"
    return f"no {' and no '.join(map(title, missing))}" if missing else ""


def title(name: str) -> str:
    return name if name == "output" else f"gradient of {name}"


def like_faults(case: Case, answer: Mapping[str, Array], accumulate: str | None = None) -> list[str]:
    """Return the faults that give these numbers, and not the right ones.

    The bound of an entry that ought to be 0 is 0, and a fault puts a rounded number there. So numbers are alike when no
    entry differs by more than four times the largest bound of its array, and 16 u of itself.
    """
    relative = 16 * PRECISIONS[case.dtype].roundoff
    limits = {name: 4 * float(bound.max()) for name, bound in case.bounds(accumulate).items()}

    def alike(X: Mapping[str, Array], Y: Mapping[str, Array]) -> bool:
        return all(np.allclose(X[name], Y[name], rtol=relative, atol=limits[name], equal_nan=True) for name in answer)

    planted = {name: planted_answer(case, fault) for name, fault in FAULTS[case.of].items()}
    return [name for name, X in planted.items() if X and alike(answer, X) and not alike(case.answer, X)]


def planted_answer(case: Case, fault: Any) -> dict[str, Array] | None:
    """Return the answer of the reference implementation with the fault; None where the fault can't be computed."""
    try:
        answer = plant(case.of, fault)(case.inputs, case.options).answer(case.cotangent)
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    right = case.answer
    same = all(np.shape(answer[name]) == right[name].shape for name in right)
    return {name: np.asarray(answer[name]) for name in right} if same else None


def answer_of(case: Case, call: Call) -> dict[str, Array]:
    """Return output and gradients as float64 arrays by name. Raises NotOffered and Nonsense."""
    names = [name for name in (*case.inputs, *case.options) if name not in POSITIONAL[case.of]]
    if missing := not_taken(call.forward, names):
        raise NotOffered(f"it has no {' and no '.join(missing)}")
    run = {"numpy": _by_numpy, "torch": _by_torch, "jax": _by_jax}[call.framework]
    try:
        output, gradients = run(case, call)
    except NotImplementedError as error:
        raise NotOffered(f"NotImplementedError: {error}".removesuffix(": ")) from None
    except (ImportError, NotOffered, Nonsense):
        raise
    except Exception as error:                                # any error of the implementation is a finding
        raise Nonsense(f"it raised {type(error).__name__}: {error}".split("\n")[0]) from None
    return {"output": output} | gradients


def not_taken(function: Callable[..., Any], names: Sequence[str]) -> list[str]:
    """Return the names that the signature lacks; none where there is no signature to read."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return []
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    return [name for name in names if name not in parameters]


def _arguments(case: Case, named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    order = [name for name in POSITIONAL[case.of] if name in named]
    return [named[name] for name in order], {name: value for name, value in named.items() if name not in order}


def _numbers(case: Case, values: Mapping[str, Any], kind: Any) -> dict[str, Array]:
    """Return float64 arrays. Raise Nonsense unless the values are arrays of this kind, of the right shape and dtype."""
    found = {}
    for name, value in values.items():
        right, what = case.answer[name], title(name)
        if not isinstance(value, kind):
            raise Nonsense(f"{what}: expected an array, got {type(value).__name__}")
        if tuple(value.shape) != right.shape:
            raise Nonsense(f"{what}: expected the shape {right.shape}, got {tuple(value.shape)}")
        if (dtype := str(value.dtype).removeprefix("torch.")) != case.dtype:
            raise Nonsense(f"{what}: expected the dtype {case.dtype}, got {dtype}")
        number = value.detach().cpu().double().numpy() if hasattr(value, "detach") else value
        found[name] = np.array(number, np.float64)
    return found


Found = tuple[Array, dict[str, Array]]


def _by_numpy(case: Case, call: Call) -> Found:
    given = {name: case.array(name) for name in case.inputs} | dict(case.options)
    before = {name: value.copy() for name, value in given.items() if isinstance(value, np.ndarray)}
    args, kwargs = _arguments(case, given)
    output, cache = call.forward(*args, **kwargs), None
    if isinstance(output, tuple):
        if len(output) != 2:
            raise Nonsense(f"output: expected Y or (Y, cache), got a tuple of {len(output)}")
        output, cache = output
    kind = (np.ndarray, np.generic)
    number = _numbers(case, {"output": output}, kind)["output"]             # a copy: a backward may reuse the memory
    found = {}
    if call.backward is not None and case.gradients:
        gradients = call.backward(case.cast(case.cotangent), output if cache is None else cache)
        found = _numbers(case, _named(case, gradients), kind)
    if changed := [name for name, value in before.items() if not np.array_equal(given[name], value)]:
        raise Nonsense(f"it changed its input {changed[0]}")
    return number, found


def _named(case: Case, gradients: Any) -> dict[str, Any]:
    """Name the gradients in the order of the inputs; one that is None belongs to an input that was not given."""
    every = list(gradients) if isinstance(gradients, tuple | list) else [gradients]
    given = [gradient for gradient in every if gradient is not None]
    if len(given) != len(case.gradients):
        raise Nonsense(f"expected gradients of {', '.join(case.gradients)}, got {len(given)}")
    return dict(zip(case.gradients, given, strict=True))


def _by_torch(case: Case, call: Call) -> Found:
    torch: Any = import_module("torch")
    dtype = getattr(torch, case.dtype)
    tensors = {name: case.laid_out(torch.tensor(value, dtype=dtype)) for name, value in case.inputs.items()}
    for name in case.gradients:
        tensors[name].requires_grad_()
    others = {name: torch.tensor(value) if isinstance(value, np.ndarray) else value
              for name, value in case.options.items()}
    args, kwargs = _arguments(case, tensors | others)
    output = call.forward(*args, **kwargs)
    output = output[0] if isinstance(output, tuple) else output
    number = _numbers(case, {"output": output}, torch.Tensor)["output"]
    if case.gradients:
        output.backward(torch.tensor(case.cotangent, dtype=dtype))
    found = {name: tensors[name].grad for name in case.gradients}
    if lost := [name for name, gradient in found.items() if gradient is None]:
        raise Nonsense(f"no gradient reaches {', '.join(lost)}")
    return number, _numbers(case, found, torch.Tensor)


def _by_jax(case: Case, call: Call) -> Found:
    jax: Any = import_module("jax")
    dtype = getattr(jax.numpy, case.dtype)
    inputs = {name: jax.numpy.asarray(value, dtype) for name, value in case.inputs.items()}

    def forward(values: dict[str, Any]) -> Any:
        args, kwargs = _arguments(case, values | dict(case.options))
        output = call.forward(*args, **kwargs)
        return output[0] if isinstance(output, tuple) else output

    output, back = jax.vjp(forward, inputs)
    number = _numbers(case, {"output": output}, jax.Array)["output"]
    (gradients,) = back(jax.numpy.asarray(case.cotangent, dtype))
    return number, _numbers(case, {name: gradients[name] for name in case.gradients}, jax.Array)
