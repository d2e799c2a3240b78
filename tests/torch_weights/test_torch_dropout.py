"""PyTorch's dropout in training: with the same factors, a decoder layer has the same output and the same gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import npattn
from npattn import torch_weights
from npattn._internal.checks import Array
from npattn.attention import dot_product
from npattn.layers import dropout
from npattn.transformer import reference
from npattn.transformer.parameters import nested

P = 0.4


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")   # of nn.Transformer
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_one_p_of_pytorch_is_two_of_ours(norm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's p is `dropout` and `attention_dropout`; the hidden units of the feed-forward, dropped too, are left."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    factors: list[Array] = []

    def drop(A: Any, p: float = 0.5, *_: Any) -> Any:
        if p:
            factors.append(((torch.rand_like(A) >= p) / (1 - p)).numpy())
        return A * torch.tensor(factors[-1]) if p else A

    def attend(Q: Any, K: Any, V: Any, attn_mask: Any, dropout_p: float, *_: Any, **__: Any) -> Any:
        E = Q @ K.mT / Q.shape[-1] ** 0.5
        return drop(torch.softmax(E if attn_mask is None else E + attn_mask, -1), dropout_p) @ V

    monkeypatch.setattr(torch.nn.functional, "dropout", drop)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    core = torch.nn.Transformer(6, 2, 1, 1, 10, P, norm_first=norm == "pre", batch_first=True, dtype=torch.float64)
    layer = core.decoder.layers[0]
    assert {layer.dropout.p, layer.dropout1.p, layer.self_attn.dropout, layer.multihead_attn.dropout} == {P}
    layer.dropout.p = 0.0                                     # of the hidden units
    X, M = (torch.randn(2, n, 6, dtype=torch.float64, requires_grad=True) for n in (3, 4))
    Y = layer(X, M, tgt_mask=core.generate_square_subsequent_mask(3, dtype=torch.float64))
    dY = torch.randn_like(Y)
    Y.backward(dY)
    assert [factor.shape for factor in factors] == [(2, 2, 3, 3), (2, 3, 6), (2, 2, 3, 4), (2, 3, 6), (2, 3, 6)]

    def ours(A: Array, p: float, rng: Any) -> Any:
        _, cache = dropout(A, p, rng)
        factor = factors.pop(0)
        return A * factor, cache._replace(M=factor)

    monkeypatch.setattr(reference, "dropout", ours)
    monkeypatch.setattr(dot_product, "dropout", ours)
    config = npattn.TransformerConfig(5, 5, d_model=6, n_heads=2, d_ff=10, n_encoder_layers=1, n_decoder_layers=1,
                                      norm=norm, final_norm=True, dropout=P, attention_dropout=P)  # fmt: skip
    model = npattn.Transformer(config, dtype=np.float64)
    torch_weights.load_transformer(model, {name: tensor.numpy() for name, tensor in core.state_dict().items()})
    p, seen, pads = nested(dict(model.params))["decoder"]["0"], npattn.causal_mask(3), np.full((2, 1, 1, 4), True)
    given = X.detach().numpy(), M.detach().numpy()
    got, cache = reference.decoder_layer(*given, p, seen, pads, config, np.random.default_rng(0))
    dX, dM, grads = reference.decoder_layer_backward(dY.numpy(), cache)
    in_proj = np.hstack([grads["cross_attention"][f"W_{which}"] for which in "QKV"]).T
    pairs = [(got, Y.detach()), (dX, X.grad), (dM, M.grad), (in_proj, layer.multihead_attn.in_proj_weight.grad),
             (grads["feed_forward"]["W_1"].T, layer.linear1.weight.grad)]  # fmt: skip
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-13)
