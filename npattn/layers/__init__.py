"""The layers of a Transformer, one file each. A layer is a pure pair: `name` and `name_backward`.

`name(...)` returns `(Y, cache)`. `name_backward(dY, cache)` returns the gradients in the order of the floating
arguments; ids, targets and masks have none, and an argument that was None has None. A single gradient is returned bare.
`softmax` is the one exception: its backward needs its output alone, so it returns `A`, and `softmax_backward(dA, A)`
takes `A`.

`alibi_bias` and `rotary_frequencies` make the numbers of positions, and have no backward. `kernels` has the products
and sums that layers share, without checks; `positions` has the sinusoids. Attention is not here but in
`npattn.attention`.
"""

from npattn.layers import positions as positions
from npattn.layers.alibi import alibi_bias
from npattn.layers.causal_convolution import causal_convolution, causal_convolution_backward
from npattn.layers.cross_entropy import cross_entropy, cross_entropy_backward
from npattn.layers.dropout import dropout, dropout_backward
from npattn.layers.embedding import embedding, embedding_backward
from npattn.layers.gated_feed_forward import geglu, geglu_backward, swiglu, swiglu_backward
from npattn.layers.gated_rms_norm import gated_rms_norm, gated_rms_norm_backward
from npattn.layers.gelu import gelu, gelu_backward
from npattn.layers.l2_norm import l2_norm, l2_norm_backward
from npattn.layers.layer_norm import layer_norm, layer_norm_backward
from npattn.layers.linear import linear, linear_backward
from npattn.layers.mixture_of_experts import (
    mixture_of_experts,
    mixture_of_experts_backward,
    route,
    route_backward,
)
from npattn.layers.relu import relu, relu_backward
from npattn.layers.rms_norm import rms_norm, rms_norm_backward
from npattn.layers.rotary import rotary, rotary_backward
from npattn.layers.rotary_frequencies import RotaryFrequencies, rotary_frequencies
from npattn.layers.silu import silu, silu_backward
from npattn.layers.soft_cap import soft_cap, soft_cap_backward
from npattn.layers.softmax import softmax, softmax_backward

__all__ = [
    "RotaryFrequencies",
    "alibi_bias",
    "causal_convolution",
    "causal_convolution_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "dropout_backward",
    "embedding",
    "embedding_backward",
    "gated_rms_norm",
    "gated_rms_norm_backward",
    "geglu",
    "geglu_backward",
    "gelu",
    "gelu_backward",
    "l2_norm",
    "l2_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "mixture_of_experts",
    "mixture_of_experts_backward",
    "relu",
    "relu_backward",
    "rms_norm",
    "rms_norm_backward",
    "rotary",
    "rotary_backward",
    "rotary_frequencies",
    "route",
    "route_backward",
    "silu",
    "silu_backward",
    "soft_cap",
    "soft_cap_backward",
    "softmax",
    "softmax_backward",
    "swiglu",
    "swiglu_backward",
]
