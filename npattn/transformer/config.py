"""The sizes and choices that make a Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from npattn._internal.checks import check_choice, check_flag, check_number, check_size

#: A model of more layers is a typing error, or a forged file: their names alone would fill memory.
MOST_LAYERS = 10_000

CHOICES = {"norm": ("post", "pre"), "tie": ("output", "all", "none"), "activation": ("relu", "gelu")}


@dataclass(frozen=True)
class TransformerConfig:
    """Hyperparameters; the default sizes are those of the paper's base model, whose embeddings are tied with "all".

    - `src_vocab`, `tgt_vocab`: numbers of ids. `d_model` is D_X, `d_ff` the hidden width of the feed-forward layer.
    - `norm`: "post" as in the paper, Y = norm(X + f(X)), or "pre", Y = X + f(norm(X)).
    - `final_norm`: one more layer norm after the last layer of encoder and decoder; None means only with pre-norm,
      whose last sum would otherwise stay unnormalised. True with post-norm is what torch's nn.Transformer does.
    - `tie`: "output" uses the target embedding as output projection, "all" the source embedding as well (the paper;
      one vocabulary), "none" neither.
    - `bias`: False leaves out every b and β.
    - `pad_id`, `bos_id`, `eos_id`: three different ids of the target vocabulary; `pad_id` fills sources as well.

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

    def __post_init__(self) -> None:
        for name in ("src_vocab", "tgt_vocab", "d_model", "n_heads", "d_ff", "n_decoder_layers"):
            self._set(name, check_size(name, getattr(self, name), least=1))
        for name in ("n_encoder_layers", "pad_id", "bos_id", "eos_id"):
            self._set(name, check_size(name, getattr(self, name)))
        for name in ("n_encoder_layers", "n_decoder_layers"):
            if getattr(self, name) > MOST_LAYERS:
                raise ValueError(f"{name}: expected at most {MOST_LAYERS:,}, got {getattr(self, name):,}")
        self._set("dropout", check_number("dropout", self.dropout, 0, 1))
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        self._set("bias", check_flag("bias", self.bias))
        if self.final_norm is not None:
            self._set("final_norm", check_flag("final_norm", self.final_norm))
        self._check_together()

    def _set(self, name: str, value: Any) -> None:
        """Keep a value of Python's own, which JSON takes, where NumPy's was given."""
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
        """Whether encoder and decoder end on a layer norm."""
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
        """Return the shape of every parameter by name, in the order in which they are used."""
        D = self.d_model
        shapes: dict[str, tuple[int, ...]] = {
            self.source_embedding: (self.src_vocab, D),
            self.target_embedding: (self.tgt_vocab, D),
        }
        for i in range(self.n_encoder_layers):
            shapes |= self._attention(f"encoder.{i}.self_attention") | self._norm(f"encoder.{i}.norm_1")
            shapes |= self._feed_forward(f"encoder.{i}.feed_forward") | self._norm(f"encoder.{i}.norm_2")
        for i in range(self.n_decoder_layers):
            shapes |= self._attention(f"decoder.{i}.self_attention") | self._norm(f"decoder.{i}.norm_1")
            shapes |= self._attention(f"decoder.{i}.cross_attention") | self._norm(f"decoder.{i}.norm_2")
            shapes |= self._feed_forward(f"decoder.{i}.feed_forward") | self._norm(f"decoder.{i}.norm_3")
        if self.has_final_norm:
            shapes |= self._norm("encoder.norm") | self._norm("decoder.norm")
        if self.tie == "none":
            shapes["output.W"] = (D, self.tgt_vocab)
        return shapes

    def side_by_side(self) -> dict[str, tuple[str, ...]]:
        """Return which parameters stand side by side, so that one product projects to queries, keys and values."""
        attentions = [name.removesuffix("W_O") for name in self.shapes() if name.endswith("W_O")]
        kinds = ("W", "b") if self.bias else ("W",)
        return {
            f"{name}{kind}_QKV": tuple(f"{name}{kind}_{which}" for which in "QKV")
            for name in attentions
            for kind in kinds
        }

    def _attention(self, name: str) -> dict[str, tuple[int, ...]]:
        D = self.d_model
        shapes: dict[str, tuple[int, ...]] = {}
        for which in "QKVO":
            shapes[f"{name}.W_{which}"] = (D, D)
            if self.bias:
                shapes[f"{name}.b_{which}"] = (D,)
        return shapes

    def _feed_forward(self, name: str) -> dict[str, tuple[int, ...]]:
        D, F = self.d_model, self.d_ff
        weights: dict[str, tuple[int, ...]] = {f"{name}.W_1": (D, F), f"{name}.W_2": (F, D)}
        biases: dict[str, tuple[int, ...]] = {f"{name}.b_1": (F,), f"{name}.b_2": (D,)}
        return weights | biases if self.bias else weights

    def _norm(self, name: str) -> dict[str, tuple[int, ...]]:
        gamma: dict[str, tuple[int, ...]] = {f"{name}.gamma": (self.d_model,)}
        return gamma | {f"{name}.beta": (self.d_model,)} if self.bias else gamma
