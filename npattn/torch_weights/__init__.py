"""PyTorch's names and layouts, in and out, on plain mappings of NumPy arrays; PyTorch itself is never imported.

PyTorch stores a weight as (out, in), the transpose of ours, and stacks the projections of queries, keys and values in
one array. With E for its embed_dim and d_model, F for its dim_feedforward:

==================================  ====================  ====================================================
nn.MultiheadAttention                                     ours, as in `npattn.attention.v7_multi_head`
==================================  ====================  ====================================================
in_proj_weight                      (3E, E)               W_Qᵀ above W_Kᵀ above W_Vᵀ ("packed")
q_, k_, v_proj_weight               (E, E, kdim or vdim)  W_Qᵀ, W_Kᵀ, W_Vᵀ: instead, when kdim or vdim is not E
in_proj_bias                        (3E,)                 b_Q, b_K, b_V in a row
out_proj.weight, .bias              (E, E), (E,)          W_Oᵀ, b_O
==================================  ====================  ====================================================
nn.Transformer                                            ours, as in `npattn.Transformer`
==================================  ====================  ====================================================
encoder.layers.0.self_attn.…        as above              encoder.0.self_attention.…, and decoder likewise
decoder.layers.0.multihead_attn.…   as above              decoder.0.cross_attention.…
….linear1.weight, .bias             (F, E), (F,)          ….feed_forward.W_1ᵀ, b_1; linear2 is W_2ᵀ, b_2
….norm1.weight, .bias               (E,)                  ….norm_1.gamma, beta; norm2, norm3 likewise
encoder.norm.weight, .bias          (E,)                  encoder.norm.gamma, beta, and decoder likewise
==================================  ====================  ====================================================

**Embeddings and output projection** are no part of nn.Transformer: loading leaves ours as they are, dumping leaves them
out. nn.Embedding.weight is laid out like our W_E (V, D_X); nn.Linear.weight is the transpose of our output.W.

**Final norms** nn.Transformer has by default, whatever its norm_first; so the model needs `norm="pre"`, or
`final_norm=True` beside `norm="post"`. A model without them exchanges weights with an nn.Transformer whose
custom_encoder and custom_decoder were built without `norm`.

**Not in the weights**, and so to be made equal by hand: n_heads = nhead; norm = "pre" for norm_first=True;
activation; PyTorch's layer_norm_eps = 1e-5; add_zero_attn=False. A boolean mask says True = may *not* attend in
nn.Transformer and nn.MultiheadAttention, the opposite of ours: pass them `~mask`.

**Strict and lossless**  Numbers are moved, never rounded, and every array returned is a C-contiguous copy, ready for
`save_state`, `np.savez` or `safetensors.numpy.save_file`. A value may be anything `np.asarray` takes, such as a CPU
tensor. Names that are missing, not expected, or of another shape or dtype are all listed in one ValueError, and nothing
has changed.

**Files**  `save_state` and `load_state` keep a state in a `.npz` file or, with the extra `safetensors`, in a
`.safetensors` file; so do `np.savez("core.npz", **{name: t.numpy() for name, t in module.state_dict().items()})` and
`safetensors.torch.save_file(module.state_dict(), "core.safetensors")` beside PyTorch.

>>> import numpy as np
>>> state = {"in_proj_weight": np.arange(12.0).reshape(6, 2), "out_proj.weight": np.array([[1.0, 2.0], [3.0, 4.0]])}
>>> params = load_multi_head(state)
>>> params["W_K"], params["W_O"]                     # rows 2 and 3 of the stack, transposed
(array([[4., 6.],
       [5., 7.]]), array([[1., 3.],
       [2., 4.]]))
>>> dump_multi_head(params)["out_proj.weight"]
array([[1., 2.],
       [3., 4.]])
>>> from npattn import Transformer, TransformerConfig
>>> model = Transformer(TransformerConfig(9, 7, d_model=8, n_heads=2, d_ff=16, final_norm=True))
>>> twin = Transformer(model.config, rng=1)
>>> load_transformer(twin, dump_transformer(model))
>>> bool((twin.params["encoder.norm.gamma"] == model.params["encoder.norm.gamma"]).all())
True
>>> load_multi_head({"in_proj_weight": np.zeros((6, 2)), "out_proj": np.zeros((2, 2))})
Traceback (most recent call last):
ValueError: state: missing 'out_proj.weight'; unexpected 'out_proj'
"""

from npattn._internal.files import load_state, save_state
from npattn.torch_weights.multi_head import dump_multi_head, load_multi_head
from npattn.torch_weights.transformer import dump_transformer, load_transformer

__all__ = ["dump_multi_head", "dump_transformer", "load_multi_head", "load_state", "load_transformer", "save_state"]
