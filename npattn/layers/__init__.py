"""The layers of a Transformer, one file each. A layer is a pure pair: `name` and `name_backward`.

`name(...)` returns `(Y, cache)`. `name_backward(dY, cache)` returns the gradients in the order of the floating
arguments; ids, targets and masks have none, and an argument that was None has None. A single gradient is returned bare.
`softmax` is the one exception: its backward needs its output alone, so it returns `A`, and `softmax_backward(dA, A)`
takes `A`.

`kernels` has the products and sums that layers share, without checks; `positions` has the sinusoids. Attention is not
here but in `npattn.attention`.
"""

from npattn.layers import positions as positions
from npattn.layers.cross_entropy import cross_entropy, cross_entropy_backward
from npattn.layers.dropout import dropout, dropout_backward
from npattn.layers.embedding import embedding, embedding_backward
from npattn.layers.gelu import gelu, gelu_backward
from npattn.layers.layer_norm import layer_norm, layer_norm_backward
from npattn.layers.linear import linear, linear_backward
from npattn.layers.relu import relu, relu_backward
from npattn.layers.softmax import softmax, softmax_backward

__all__ = [
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "dropout_backward",
    "embedding",
    "embedding_backward",
    "gelu",
    "gelu_backward",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "relu",
    "relu_backward",
    "softmax",
    "softmax_backward",
]
