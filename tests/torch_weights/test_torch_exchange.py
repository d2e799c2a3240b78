"""Models of PyTorch give the same logits here: the model in golden/exchange.npz and, with PyTorch, others."""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npattn
from npattn import torch_weights
from npattn._internal.checks import Array

GOLDEN = Path(__file__).parents[1] / "golden" / "exchange.npz"
EXAMPLE = re.compile(r"and moves back::\n\n((?:    .*\n|\n)+)")

SIZES = {"d_model": 6, "n_heads": 2, "d_ff": 10, "n_encoder_layers": 2, "n_decoder_layers": 3, "dropout": 0.0}


def test_the_golden_model_gives_the_same_logits() -> None:
    """The file of `np.savez` has the `state_dict()`, ids and logits, in float32 like PyTorch."""
    state = torch_weights.load_state(GOLDEN)
    config = npattn.TransformerConfig(
        12, 12, d_model=16, n_heads=4, d_ff=32, n_encoder_layers=2, n_decoder_layers=2, final_norm=True, tie="all"
    )
    model = npattn.Transformer(config)
    core = {name.removeprefix("core."): array for name, array in state.items() if name.startswith("core.")}
    torch_weights.load_transformer(model, core)
    model.params["embedding.W_E"] = state["embedding.weight"]
    logits, _ = model.forward(state["src"], state["tgt"])
    assert logits.dtype == state["logits"].dtype == np.float32
    assert np.abs(logits - state["logits"]).max() <= 1e-6 * np.abs(logits).max()
    assert all((torch_weights.dump_transformer(model)[name] == array).all() for name, array in core.items())


@pytest.fixture
def torch() -> Iterator[Any]:
    module = pytest.importorskip("torch")
    module.manual_seed(0)
    before = module.get_default_dtype()
    module.set_default_dtype(module.float64)
    yield module
    module.set_default_dtype(before)


def shaken(module: Any, torch: Any) -> Any:
    """Change every parameter: the initial values are 0 for biases and 1 for γ."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module.eval()


def numbers(state: Any) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in state.items()}


def assert_same(got: Any, want: Any) -> None:
    assert got.keys() == want.keys()
    assert all(got[n].tobytes() == want[n].tobytes() and got[n].shape == want[n].shape for n in want)


def test_the_example_of_the_docstring(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    found = EXAMPLE.search(inspect.cleandoc(torch_weights.__doc__ or ""))
    assert found
    exec(compile(textwrap.dedent(found[1]), "torch_weights", "exec"), {})
    assert os.listdir(tmp_path) == ["core.npz"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [{}, {"kdim": 5, "vdim": 5}])
def test_multi_head_attention(torch: Any, bias: bool, widths: dict[str, int]) -> None:
    def make() -> Any:
        return shaken(torch.nn.MultiheadAttention(6, 3, bias=bias, batch_first=True, **widths), torch)

    theirs, other = make(), make()
    params = torch_weights.load_multi_head(theirs.state_dict())
    X_Q, X = torch.randn(2, 4, 6), torch.randn(2, 7, widths.get("kdim", 6))
    mask = torch.rand(4, 7) < 0.6
    mask[:, 2] = True
    Z, A = theirs(X_Q, X, X, attn_mask=~mask, average_attn_weights=False)
    ours, cache = npattn.attention.v7_multi_head.forward(
        X_Q.numpy(), X.numpy(), **params, n_heads=3, mask=mask.numpy()
    )
    assert np.abs(ours - Z.detach().numpy()).max() < 1e-13 and np.abs(cache.A - A.detach().numpy()).max() < 1e-14
    state = torch_weights.dump_multi_head(params, packed=not widths)
    other.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=True)
    assert_same(numbers(other.state_dict()), numbers(theirs.state_dict()))


def test_learned_keys_and_values_are_refused(torch: Any) -> None:
    state = torch.nn.MultiheadAttention(6, 3, add_bias_kv=True).state_dict()
    with pytest.raises(ValueError, match="expected add_bias_kv=False, got bias_k and bias_v"):
        torch_weights.load_multi_head(state)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_how_one_notices_what_ours_cannot_be_set_to(torch: Any) -> None:
    """The table in the docstring of `npattn.torch_weights`."""
    params = torch_weights.load_multi_head(torch.nn.MultiheadAttention(6, 3, kdim=5, vdim=4).state_dict())
    with pytest.raises(ValueError, match=r"^W_V: expected"):
        npattn.attention.v7_multi_head.forward(np.ones((2, 6)), np.ones((3, 5)), **params, n_heads=3)
    model = npattn.Transformer(npattn.TransformerConfig(9, 8, final_norm=True, **SIZES), dtype=np.float64)   # type: ignore[arg-type]
    for options, missing in (({"elementwise_affine": False}, "weight"), ({"bias": False}, "bias")):
        core = torch.nn.Transformer(6, 2, 2, 3, 10)
        core.encoder.norm = torch.nn.LayerNorm(6, **options)
        with pytest.raises(ValueError, match=f"^state: missing 'encoder.norm.{missing}'"):
            torch_weights.load_transformer(model, core.state_dict())
    theirs, X = torch.nn.MultiheadAttention(4, 1, add_zero_attn=True, bias=False, batch_first=True), torch.randn(3, 4)
    params, x = torch_weights.load_multi_head(theirs.state_dict()), X.numpy()
    K, V = (np.vstack([x @ params[name], np.zeros((1, 4))]) for name in ("W_K", "W_V"))
    Y, _ = npattn.scaled_dot_product_attention(x @ params["W_Q"], K, V)
    np.testing.assert_allclose(Y @ params["W_O"], theirs(X, X, X)[0].detach().numpy(), rtol=0, atol=1e-14)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")     # PyTorch warns that some options are slower
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("final_norm", [True, False])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_transformer(torch: Any, norm: str, bias: bool, final_norm: bool, suffix: str, tmp_path: Path) -> None:
    eps = 1e-5 if bias else 0.5

    def make() -> Any:
        core = torch.nn.Transformer(
            6, 2, 2, 3, 10, dropout=0.0, norm_first=norm == "pre", bias=bias, batch_first=True, layer_norm_eps=eps
        )
        if not final_norm:
            core.encoder.norm = core.decoder.norm = None
        return shaken(core, torch)

    theirs, other = make(), make()
    config = npattn.TransformerConfig(9, 8, norm=norm, bias=bias, final_norm=final_norm, norm_eps=eps, **SIZES)   # type: ignore[arg-type]
    model = npattn.Transformer(config, dtype=np.float64)
    path = tmp_path / f"core{suffix}"
    if suffix == ".npz":
        np.savez(path, **numbers(theirs.state_dict()))
    else:
        pytest.importorskip("safetensors.torch").save_file(theirs.state_dict(), path)
    torch_weights.load_transformer(model, torch_weights.load_state(path))
    src, tgt = np.array([[4, 5, 6, 7, 3], [8, 3, 5, 5, 5]]), np.array([[1, 6, 4], [1, 7, 7]])
    logits, _ = model.forward(src, tgt)
    X, Y = (embedded(model.params[f"{side}_embedding.W_E"], ids) for side, ids in (("source", src), ("target", tgt)))
    with torch.no_grad():
        order = theirs.generate_square_subsequent_mask(3)
        Z = theirs(torch.tensor(X), torch.tensor(Y), tgt_mask=order).numpy() @ model.params["target_embedding.W_E"].T
    assert np.abs(logits - Z).max() <= 1e-12 * np.abs(Z).max()
    torch_weights.save_state(path, torch_weights.dump_transformer(model))
    if suffix == ".npz":
        state = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
    else:
        state = pytest.importorskip("safetensors.torch").load_file(path)
    other.load_state_dict(state, strict=True)
    assert_same(numbers(other.state_dict()), numbers(theirs.state_dict()))


def embedded(W_E: Array, ids: Array) -> Array:
    return W_E[ids] * np.sqrt(W_E.shape[1]) + npattn.sinusoidal_positions(ids.shape[1], W_E.shape[1])
