"""Exchange weights with PyTorch, as mappings of names to NumPy arrays. PyTorch itself is never imported.

PyTorch stores a weight as (out, in), the transpose of ours. It stacks the projections of queries, keys and values in
one array. E is its embed_dim or d_model, F its dim_feedforward:

==================================  ====================  ====================================================
nn.MultiheadAttention                                     ours, as in `npattn.attention.v7_multi_head`
==================================  ====================  ====================================================
in_proj_weight                      (3E, E)               W_Qᵀ above W_Kᵀ above W_Vᵀ ("packed")
q_, k_, v_proj_weight               (E, E, kdim or vdim)  W_Qᵀ, W_Kᵀ, W_Vᵀ: instead, if kdim or vdim is not E
in_proj_bias                        (3E,)                 b_Q, b_K, b_V one after another
out_proj.weight, .bias              (E, E), (E,)          W_Oᵀ, b_O
==================================  ====================  ====================================================
nn.Transformer                                            ours, as in `npattn.Transformer`
==================================  ====================  ====================================================
encoder.layers.0.self_attn.…        as above              encoder.0.self_attention.…; decoder the same
decoder.layers.0.multihead_attn.…   as above              decoder.0.cross_attention.…
….linear1.weight, .bias             (F, E), (F,)          ….feed_forward.W_1ᵀ, b_1; linear2 is W_2ᵀ, b_2
….norm1.weight, .bias               (E,)                  ….norm_1.gamma, beta; norm2, norm3 the same
encoder.norm.weight, .bias          (E,)                  encoder.norm.gamma, beta; decoder the same
==================================  ====================  ====================================================

**Embeddings and output projection** are not part of nn.Transformer. Loading leaves ours unchanged, and dumping omits
them. nn.Embedding.weight has the layout of our W_E (V, D_X); nn.Linear.weight is the transpose of our output.W.

**Final norms**  nn.Transformer has them by default, for any norm_first. So the model needs `norm="pre"`, or
`norm="post"` with `final_norm=True`. A model without final norms exchanges weights with an nn.Transformer whose
custom_encoder and custom_decoder have no `norm`.

**Settings** are not part of the weights. Make them equal by hand: n_heads = nhead or num_heads; norm = "pre" for
norm_first=True; norm_eps = layer_norm_eps; activation, where our "gelu" is PyTorch's without `approximate`. A wrong one
raises no error, so compare an output, as the example does. In a boolean mask of nn.Transformer and
nn.MultiheadAttention True means may *not* attend, the opposite of ours: pass `~mask`. Our arrays have the axes of
batch_first=True.

**What ours cannot be set to**, and how one notices:

==================================  ================================================================================
add_bias_kv=True                    an error names bias_k and bias_v
kdim not equal to vdim              loads; `v7_multi_head.forward` then raises ValueError for the shape of W_V
add_zero_attn=True                  no error: `module.add_zero_attn`. A row of zeros added to K and V does the same, for
                                    `npattn.scaled_dot_product_attention`
elementwise_affine=False            an error names the missing norm weights: add ones for "weight", zeros for "bias"
norms with an eps of their own      no error: `module.encoder.norm.eps`. Ours have one ε
bias=False in one part alone        an error names the missing biases: add zeros, or take bias=False for all
activation other than relu, gelu    no error: `module.encoder.layers[0].activation`
dropout of the feed-forward         no error: PyTorch also drops its hidden units in training, see **Dropout**
padding_idx, max_norm of Embedding  no error: ours trains every row of W_E, and never rescales one
==================================  ================================================================================

**Dropout** is no part of the weights either. PyTorch has one p where ours has two:

- nn.MultiheadAttention(dropout=p) drops the weights of attention: `attention_dropout=p`.
- nn.Transformer(dropout=p) and its layers drop these and what each sub-layer adds: `attention_dropout=p, dropout=p`.
  They also drop hidden units of the feed-forward, which ours never does. Our `dropout` is for the embeddings too, and
  nn.Transformer has none.

After `module.eval()`, and here without an rng, nothing is dropped, and the outputs agree.

**Strict and lossless**  Numbers are moved, never rounded. Every returned array is a C-contiguous copy, ready for
`save_state`, `np.savez` or `safetensors.numpy.save_file`. A value may be anything that `np.asarray` accepts, such as a
CPU tensor. One ValueError lists all names that are missing, unexpected, or of another shape or dtype, and then nothing
has changed.

**Files**  `save_state` and `load_state` use a `.npz` file or, with the extra `safetensors`, a `.safetensors` file. In
PyTorch, `np.savez("core.npz", **{name: t.numpy() for name, t in module.state_dict().items()})` and
`safetensors.torch.save_file(module.state_dict(), "core.safetensors")` write the same files.

**Example**  A model moves over from PyTorch, gives the same logits, and moves back::

    import math

    import numpy as np
    import torch

    import npattn
    from npattn import torch_weights

    embedding = torch.nn.Embedding(12, 32)                        # of sources, of targets, and of the output
    torch.nn.init.normal_(embedding.weight, std=32**-0.5)
    core = torch.nn.Transformer(32, 4, 2, 2, 64, batch_first=True).eval()
    np.savez("core.npz", **{name: tensor.numpy() for name, tensor in core.state_dict().items()})

    config = npattn.TransformerConfig(
        12, 12, d_model=32, n_heads=4, d_ff=64, n_encoder_layers=2, n_decoder_layers=2, final_norm=True, tie="all"
    )
    model = npattn.Transformer(config)
    torch_weights.load_transformer(model, torch_weights.load_state("core.npz"))
    model.params["embedding.W_E"] = embedding.weight.detach().numpy()

    src, tgt = np.array([[4, 5, 6, 7]]), np.array([[1, 8, 9]])
    ours, _ = model.forward(src, tgt)                             # (1, 3, 12), float32
    with torch.no_grad():
        positions = torch.tensor(npattn.sinusoidal_positions(4, 32), dtype=torch.float32)
        X, Y = (embedding(torch.tensor(ids)) * math.sqrt(32) + positions[: ids.shape[1]] for ids in (src, tgt))
        theirs = core(X, Y, tgt_mask=core.generate_square_subsequent_mask(3)) @ embedding.weight.T
    assert np.abs(ours - theirs.numpy()).max() < 1e-6 * np.abs(ours).max()

    core.load_state_dict({name: torch.tensor(array) for name, array in torch_weights.dump_transformer(model).items()})

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
