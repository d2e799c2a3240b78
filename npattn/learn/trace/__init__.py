"""Every number of a forward and its backward: `trace` runs the two from their own source, statement by statement.

`recorder` runs functions and records what each name holds; `run` sets each matrix beside its gradient; `value` is what
comes out, and `text` writes it. `transformer` has the layers of the Transformer and a trained model. No mathematics is
written here a second time: what is shown is what the functions compute.
"""

from npattn.learn.trace.recorder import Line, Step
from npattn.learn.trace.run import trace
from npattn.learn.trace.value import Trace, Value

__all__ = ["Line", "Step", "Trace", "Value", "trace"]
