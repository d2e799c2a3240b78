"""The sizes and choices that make a Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from npattn._internal.checks import check_choice, check_flag, check_number, check_size
from npattn.layers.layer_norm import EPS
from npattn.transformer.parameters import Nested, dotted

#: A larger number is a typing error or stands in a forged file: the names of so many layers alone would fill memory.
MOST_LAYERS = 10_000

CHOICES = {"norm": ("post", "pre"), "tie": ("output", "all", "none"), "activation": ("relu", "gelu")}


@dataclass(frozen=True)
class TransformerConfig:
    """The sizes and choices of a model. The default sizes are those of the paper's base model, which has `tie="all"`.

    - src_vocab, tgt_vocab: numbers of ids of source and target.
    - d_model: D_X, the width of every row; a multiple of n_heads.
    - n_heads: H, the number of heads of every attention.
    - d_ff: the hidden width of the feed-forward layers.
    - n_encoder_layers, n_decoder_layers: numbers of layers. The encoder may have none.
    - dropout: the probability that an entry of an embedding, or of what a sub-layer adds, is zeroed; 0 ≤ dropout < 1.
    - attention_dropout: the probability that a weight of an attention is zeroed, likewise.
    - norm: "post" as in the paper, Y = norm(X + f(X)), or "pre", Y = X + f(norm(X)).
    - final_norm: True adds a layer norm after the last layer of encoder and decoder, as torch's nn.Transformer does.
      None adds it with pre-norm alone, where the last sum is not normalised otherwise.
    - tie: "output" takes the target embedding as output projection. "all" takes one table for this and both embeddings,
      as in the paper; the vocabularies must then be of one size. "none" gives each its own matrix.
    - bias: False leaves out every b and β.
    - activation: φ of the feed-forward layers, "relu" or "gelu".
    - norm_eps: ε of every layer norm, as torch's layer_norm_eps.
    - pad_id, bos_id, eos_id: three different ids of the target vocabulary. Sources are filled with pad_id too.

    Raises ValueError that names the field, the value and what was expected; TypeError for a field of a wrong type.

    Source: Vaswani et al. (2017), arXiv:1706.03762, table 3.

    >>> TransformerConfig(10, 12, d_model=6, n_heads=4)
    Traceback (most recent call last):
    ValueError: d_model: expected a multiple of n_heads=4, got 6
    """

    src_vocab: int
    tgt_vocab: int
    d_model: int = 512
    n_heads: int = 8
    d_ff: int = 2048
    n_encoder_layers: int = 6
    n_decoder_layers: int = 6
    dropout: float = 0.1
    norm: Literal["post", "pre"] = "post"
    final_norm: bool | None = None
    tie: Literal["output", "all", "none"] = "output"
    bias: bool = True
    activation: Literal["relu", "gelu"] = "relu"
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    norm_eps: float = 1e-5
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("src_vocab", "tgt_vocab", "d_model", "n_heads", "d_ff", "n_decoder_layers"):
            self._set(name, check_size(name, getattr(self, name), least=1))
        for name in ("n_encoder_layers", "pad_id", "bos_id", "eos_id"):
            self._set(name, check_size(name, getattr(self, name)))
        for name in ("n_encoder_layers", "n_decoder_layers"):
            if getattr(self, name) > MOST_LAYERS:
                raise ValueError(f"{name}: expected at most {MOST_LAYERS:,}, got {getattr(self, name):,}")
        for name in ("dropout", "attention_dropout"):
            self._set(name, check_number(name, getattr(self, name), 0, 1))
        self._set("norm_eps", check_number("norm_eps", self.norm_eps, EPS.low, EPS.high))
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        self._set("bias", check_flag("bias", self.bias))
        if self.final_norm is not None:
            self._set("final_norm", check_flag("final_norm", self.final_norm))
        self._check_together()

    def _set(self, name: str, value: Any) -> None:
        """Replace a number of NumPy by Python's own, which JSON can hold."""
        object.__setattr__(self, name, value)

    def _check_together(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model: expected a multiple of n_heads={self.n_heads}, got {self.d_model}")
        ids = (self.pad_id, self.bos_id, self.eos_id)
        if len(set(ids)) < 3 or max(ids) >= self.tgt_vocab:
            wanted = f"three different ids below {self.tgt_vocab}"
            raise ValueError(f"pad_id, bos_id, eos_id: expected {wanted}, got {', '.join(map(str, ids))}")
        if self.pad_id >= self.src_vocab:
            raise ValueError(f"pad_id: expected an id below src_vocab={self.src_vocab}, got {self.pad_id}")
        if self.tie == "all" and self.src_vocab != self.tgt_vocab:
            raise ValueError(
                f'tie="all": expected one vocabulary, got src_vocab={self.src_vocab}, tgt_vocab={self.tgt_vocab}'
            )

    @property
    def has_final_norm(self) -> bool:
        """Whether encoder and decoder end with a layer norm."""
        return self.norm == "pre" if self.final_norm is None else self.final_norm

    @property
    def source_embedding(self) -> str:
        """The name of the source embedding among the parameters."""
        return "embedding.W_E" if self.tie == "all" else "source_embedding.W_E"

    @property
    def target_embedding(self) -> str:
        """The name of the target embedding among the parameters."""
        return "embedding.W_E" if self.tie == "all" else "target_embedding.W_E"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name: embeddings, layers, final norms, output projection."""
        D, F = self.d_model, self.d_ff
        vector = (D,) if self.bias else None                  # None: there is no such parameter
        attention = {f"{kind}_{which}": shape for which in "QKVO" for kind, shape in (("W", (D, D)), ("b", vector))}
        feed_forward = {"W_1": (D, F), "W_2": (F, D), "b_1": (F,) if self.bias else None, "b_2": vector}
        norm = {"gamma": (D,), "beta": vector}
        encoder_layer = {"self_attention": attention, "norm_1": norm, "feed_forward": feed_forward, "norm_2": norm}
        decoder_layer = {
            "self_attention": attention, "norm_1": norm, "cross_attention": attention, "norm_2": norm,
            "feed_forward": feed_forward, "norm_3": norm,
        }  # fmt: skip
        parts: Nested = {self.source_embedding: (self.src_vocab, D), self.target_embedding: (self.tgt_vocab, D)}
        parts |= {f"encoder.{i}": encoder_layer for i in range(self.n_encoder_layers)}
        parts |= {f"decoder.{i}": decoder_layer for i in range(self.n_decoder_layers)}
        if self.has_final_norm:
            parts |= {"encoder.norm": norm, "decoder.norm": norm}
        if self.tie == "none":
            parts["output.W"] = (D, self.tgt_vocab)
        return dict(dotted(parts))

    def side_by_side(self) -> dict[str, tuple[str, ...]]:
        """Return the names that stand side by side: one product with W_Q, W_K and W_V gives Q, K and V."""
        names = [name.removesuffix("Q") for name in self.shapes() if name.endswith("_Q")]
        return {f"{name}QKV": (f"{name}Q", f"{name}K", f"{name}V") for name in names}
