"""Cross-entropy of logits against target ids, with label smoothing and ignored positions.

**Forward**  For one position with logits z over V classes, target t and p = softmax(z):

    q = (1 − ε) onehot(t) + ε/V                             the smoothed target, as in PyTorch
    ℓ = −Σ_v q_v log p_v = lse(z) − (1 − ε) z_t − (ε/V) Σ_v z_v,    lse(z) = log Σ_v exp z_v

since log p_v = z_v − lse(z) and Σ q = 1. L is the mean of ℓ over the n positions whose target is not `ignore_id`, or 0
if there is none. The logarithm is taken of a sum of exponentials, never of a probability, so 0 · log 0 cannot occur.

**Backward**  The derivative of lse is the softmax (foundations F8); δ_vt is 1 for v = t, else 0. From the line above:

    ∂ lse/∂z_v = exp z_v / Σ_u exp z_u = p_v
    ∂ℓ/∂z_v = p_v − (1 − ε) δ_vt − ε/V = p_v − q_v
    dz = (p − q) dL / n,    0 at ignored positions

as L is the sum of the n losses ℓ over n (foundations F11).

**Units**  nats a position. L is a 0-d array, dL (`dloss`) a number.

**Raises**  TypeError for targets that are no integers, IndexError for one outside 0 … V − 1 (`ignore_id` itself may
lie outside, as −100 does in PyTorch), ValueError for shapes that don't fit, for a `dloss` that is no real number,
and unless 0 ≤ ε < 1.

**Source**  Szegedy et al. (2016), arXiv:1512.00567, §7. Smoothing is defined in three ways in the field: ε/V on every
class (here, and torch.nn.functional.cross_entropy), ε/(V − 1) on the wrong classes (fairseq), ε/(V − 2) with the
pad's column at zero (The Annotated Transformer).

>>> import numpy as np
>>> loss, cache = cross_entropy(np.log(np.array([[1.0, 2.0, 1.0]])), np.array([1]))
>>> float(loss / np.log(2.0))                              # p_t = 1/2: one bit
1.0
>>> cross_entropy_backward(1.0, cache)
array([[ 0.25, -0.5 ,  0.25]])
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array, Interval, Shapes, check_cache, check_number, document, is_array
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import drop_negligible, row_maximum, row_sum

SMOOTHING = Interval(0, 1)
SHAPES = Shapes(logits="… V", targets="… < V", smoothing=SMOOTHING)


class Cache(NamedTuple):
    """What `cross_entropy_backward` needs."""

    P: Array        # (n, V)  probabilities at the n positions that count
    targets: Array  # (n,)    their targets
    counted: Array  # True where a position counts
    smoothing: float


def cross_entropy(
    logits: Array, targets: Array, smoothing: float = 0.0, ignore_id: int | None = None
) -> tuple[Array, Cache]:
    """Return the mean loss over the positions that count, and the cache for `cross_entropy_backward`.

    - logits: one score for each of V classes; probabilities are their softmax.
    - targets: the right class of each position.
    - smoothing: ε, the share of the target that is spread over all classes.
    - ignore_id: positions with this target do not count; None counts all.
    """
    SHAPES.check(logits, targets=targets, ignore_id=ignore_id, smoothing=smoothing)
    counted = np.full(targets.shape, True) if ignore_id is None else targets != ignore_id
    t = targets[counted]                                      # (n,)
    z = logits[counted]                                       # (n, V)
    loss = loss_in_place(z, t, float(smoothing))
    return np.asarray(loss), Cache(z, t, counted, float(smoothing))


def loss_in_place(z: Array, t: Array, smoothing: float) -> Any:
    """Return the mean loss of logits z (n, V) against targets t (n,), and turn z into the probabilities."""
    n, V = max(len(z), 1), max(z.shape[1], 1)
    z -= row_maximum(z)
    # Every shifted logit is ≤ 0, so −aimed and log(total) are both ≥ 0: their sum cannot cancel.
    aimed = (1 - smoothing) * z[np.arange(len(t)), t].sum()
    if smoothing:                                             # 0 times a logit of −∞ would be NaN
        aimed += smoothing * (z / V).sum()
    drop_negligible(z, z.real.min(initial=np.inf))
    np.exp(z, out=z)
    total = row_sum(z)                                        # (n, 1)
    loss = (np.log(total).sum() - aimed) / n
    z /= total
    return loss


def cross_entropy_backward(dloss: Array | float, cache: Cache) -> Array:
    """Return dlogits.

    - dloss: the gradient of the whole with respect to the loss, a scalar; 1 when the loss is all there is.
    - cache: what `cross_entropy` returned beside the loss.
    """
    P, targets, counted, smoothing = check_cache(cache, Cache)
    dz = P.copy()
    gradient_in_place(dz, targets, smoothing, scalar("dloss", dloss))
    if len(dz) == counted.size:                               # nothing was ignored: no need to copy
        return dz.reshape(*counted.shape, P.shape[1])
    dlogits = np.zeros((*counted.shape, P.shape[1]), P.dtype)
    dlogits[counted] = dz
    return dlogits


def gradient_in_place(P: Array, t: Array, smoothing: float, dloss: float) -> None:
    """Turn the probabilities P (n, V) that `loss_in_place` left into the gradient of the logits."""
    n, V = P.shape
    if smoothing:                                             # to subtract 0 would cost time alone
        P -= smoothing / max(V, 1)
    P[np.arange(n), t] -= 1 - smoothing                       # dz = p − q
    P *= dloss / max(n, 1)


def scalar(symbol: str, value: Any) -> float:
    """Return a number as Python's own; it may come as an array without axes."""
    is_scalar = is_array(value) and value.ndim == 0 and value.dtype.kind in "fiu"
    return float(value) if is_scalar else check_number(symbol, value, ends="[]")


document(SHAPES, cross_entropy)
cross_entropy, cross_entropy_backward = ignore_underflow(cross_entropy), ignore_underflow(cross_entropy_backward)
