"""The sizes and choices that make a Transformer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from npattn._internal.checks import check_choice, check_flag, check_number, check_size
from npattn.attention.dot_product import SCALE
from npattn.layers.layer_norm import EPS
from npattn.transformer.parameters import Nested, dotted

#: A larger number is a typing error or stands in a forged file: the names of so many layers alone would fill memory.
MOST_LAYERS = 10_000

CHOICES = {
    "norm": ("post", "pre"), "tie": ("output", "all", "none", "embeddings"), "norm_type": ("layer", "rms"),
    "activation": ("relu", "gelu", "gelu_tanh", "silu"),
    "positions": ("sinusoidal", "sinusoidal_halves", "learned", "relative"),
}  # fmt: skip
FLAGS = (
    "bias", "gated", "final_dropout", "scale_embedding", "embedding_norm", "scale_output", "output_bias",
    "pad_gradient",
)  # fmt: skip
#: How many fields there are before those for models of Hugging Face.
FIRST_FIELDS = 18


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
      as in the paper; the vocabularies must then be of one size. "embeddings" takes one table for the embeddings alone.
      "none" gives each its own matrix.
    - bias: False leaves out every b and β.
    - activation: φ of the feed-forward layers, "relu", "gelu", "gelu_tanh" or "silu".
    - norm_eps: ε of every norm, as torch's layer_norm_eps.
    - pad_id, bos_id, eos_id: different ids of the target vocabulary. Sources are filled with pad_id too. bos_id is what
      the decoder starts with; it may be one of the other two. A pad in the first column of a target is then no pad.

    Some models of Hugging Face need more. With a choice of these, the model runs on `npattn.transformer.reference`:

    - norm_type: "layer" or "rms"; the latter has no β.
    - d_head: the width of each head; None for d_model / n_heads.
    - attention_scale: multiplies Q Kᵀ; None for 1/√d_head.
    - gated: True gives the feed-forward layers a gate, F = (φ(G) ⊙ U) W_2 with [G, U] = X W_1; φ is "gelu",
      "gelu_tanh" or "silu".
    - activation_dropout: the probability that a number of the hidden layer is zeroed, 0 ≤ activation_dropout < 1.
    - final_dropout: True lets dropout follow the norm after the last layer too.
    - positions: "sinusoidal" as in the paper. "sinusoidal_halves" has all sines before all cosines, rounded to float32,
      as in Marian. "learned" has a table for the encoder and one for the decoder. "relative" adds a learned number of
      each head to a score of self-attention, by the distance of key and query, see `npattn.transformer.variants`.
    - max_length: the number of learned positions; None for others.
    - position_offset: which row of the table the first position has; the rows before it are not used.
    - relative_buckets, relative_max_distance: the number of buckets of distances, and the distance from which on all
      are in the last bucket.
    - scale_embedding: False leaves out the factor √d_model of the embeddings.
    - embedding_norm: True normalises the sum of embeddings and positions.
    - scale_output: True multiplies what the output projection reads by 1/√d_model.
    - output_bias: True adds a b to the logits.
    - pad_gradient: False leaves pads out of the gradients of the embeddings, as torch's padding_idx does. That is no
      derivative where a pad is the start token.

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
    tie: Literal["output", "all", "none", "embeddings"] = "output"
    bias: bool = True
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] = "relu"
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    norm_type: Literal["layer", "rms"] = "layer"
    d_head: int | None = None
    attention_scale: float | None = None
    gated: bool = False
    activation_dropout: float = 0.0
    final_dropout: bool = False
    positions: Literal["sinusoidal", "sinusoidal_halves", "learned", "relative"] = "sinusoidal"
    max_length: int | None = None
    position_offset: int = 0
    relative_buckets: int = 32
    relative_max_distance: int = 128
    scale_embedding: bool = True
    embedding_norm: bool = False
    scale_output: bool = False
    output_bias: bool = False
    pad_gradient: bool = True

    def __post_init__(self) -> None:
        for name in ("src_vocab", "tgt_vocab", "d_model", "n_heads", "d_ff", "n_decoder_layers"):
            self._set(name, check_size(name, getattr(self, name), least=1))
        for name in ("n_encoder_layers", "pad_id", "bos_id", "eos_id", "position_offset"):
            self._set(name, check_size(name, getattr(self, name)))
        self._set("relative_buckets", check_size("relative_buckets", self.relative_buckets, least=4))
        self._set("relative_max_distance", check_size("relative_max_distance", self.relative_max_distance))
        for name in ("d_head", "max_length"):
            if getattr(self, name) is not None:
                self._set(name, check_size(name, getattr(self, name), least=1))
        for name in ("n_encoder_layers", "n_decoder_layers"):
            if getattr(self, name) > MOST_LAYERS:
                raise ValueError(f"{name}: expected at most {MOST_LAYERS:,}, got {getattr(self, name):,}")
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            self._set(name, check_number(name, getattr(self, name), 0, 1))
        self._set("norm_eps", check_number("norm_eps", self.norm_eps, EPS.low, EPS.high))
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in FLAGS:
            self._set(name, check_flag(name, getattr(self, name)))
        if self.attention_scale is not None:
            self._set("attention_scale", check_number("attention_scale", self.attention_scale, SCALE.low, SCALE.high))
        if self.final_norm is not None:
            self._set("final_norm", check_flag("final_norm", self.final_norm))
        self._check_together()

    def _set(self, name: str, value: Any) -> None:
        """Replace a number of NumPy by Python's own, which JSON can hold."""
        object.__setattr__(self, name, value)

    def _check_together(self) -> None:
        if self.d_head is None and self.d_model % self.n_heads:
            raise ValueError(f"d_model: expected a multiple of n_heads={self.n_heads}, got {self.d_model}")
        ids = (self.pad_id, self.bos_id, self.eos_id)
        if self.pad_id == self.eos_id or max(ids) >= self.tgt_vocab:
            wanted = f"ids below {self.tgt_vocab} with pad_id ≠ eos_id"
            raise ValueError(f"pad_id, bos_id, eos_id: expected {wanted}, got {', '.join(map(str, ids))}")
        if self.pad_id >= self.src_vocab:
            raise ValueError(f"pad_id: expected an id below src_vocab={self.src_vocab}, got {self.pad_id}")
        if self.has_one_embedding and self.src_vocab != self.tgt_vocab:
            got = f"got src_vocab={self.src_vocab}, tgt_vocab={self.tgt_vocab}"
            raise ValueError(f'tie="{self.tie}": expected one vocabulary, {got}')
        if self.gated and self.activation == "relu":
            raise ValueError('gated: expected False for activation="relu", got True')
        if self.positions == "learned" and self.max_length is None:
            raise ValueError('max_length: expected a number of positions for positions="learned", got None')
        if self.relative_max_distance <= self.relative_buckets // 2:
            wanted = f"more than {self.relative_buckets // 2}, half of relative_buckets"
            raise ValueError(f"relative_max_distance: expected {wanted}, got {self.relative_max_distance}")

    @property
    def is_plain(self) -> bool:
        """Whether the model is one of the paper's, with the choices that `npattn.transformer.fast` covers."""
        later = fields(self)[FIRST_FIELDS:]
        known = self.activation in ("relu", "gelu") and self.tie != "embeddings" and self.bos_id not in (
            self.pad_id, self.eos_id
        )  # fmt: skip
        return known and all(getattr(self, field.name) == field.default for field in later)

    @property
    def has_one_embedding(self) -> bool:
        """Whether source and target have the same embedding."""
        return self.tie in ("all", "embeddings")

    @property
    def has_output(self) -> bool:
        """Whether the output projection is a matrix of its own."""
        return self.tie in ("none", "embeddings")

    @property
    def output_scale(self) -> float:
        """What multiplies the decoder's output with scale_output."""
        return self.d_model**-0.5

    @property
    def head_width(self) -> int:
        """D_H, the width of a head."""
        return self.d_head or self.d_model // self.n_heads

    @property
    def has_final_norm(self) -> bool:
        """Whether encoder and decoder end with a layer norm."""
        return self.norm == "pre" if self.final_norm is None else self.final_norm

    @property
    def source_embedding(self) -> str:
        """The name of the source embedding among the parameters."""
        return "embedding.W_E" if self.has_one_embedding else "source_embedding.W_E"

    @property
    def target_embedding(self) -> str:
        """The name of the target embedding among the parameters."""
        return "embedding.W_E" if self.has_one_embedding else "target_embedding.W_E"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name: embeddings, layers, final norms, output projection."""
        D, F, HD = self.d_model, self.d_ff, self.n_heads * self.head_width
        U = 2 * F if self.gated else F
        vector = (D,) if self.bias else None                  # None: there is no such parameter
        heads = (HD,) if self.bias else None
        attention = {f"{kind}_{which}": shape for which in "QKV" for kind, shape in (("W", (D, HD)), ("b", heads))}
        attention |= {"W_O": (HD, D), "b_O": vector}
        feed_forward = {"W_1": (D, U), "W_2": (F, D), "b_1": (U,) if self.bias else None, "b_2": vector}
        norm = {"gamma": (D,), "beta": vector if self.norm_type == "layer" else None}
        encoder_layer = {"self_attention": attention, "norm_1": norm, "feed_forward": feed_forward, "norm_2": norm}
        decoder_layer = {
            "self_attention": attention, "norm_1": norm, "cross_attention": attention, "norm_2": norm,
            "feed_forward": feed_forward, "norm_3": norm,
        }  # fmt: skip
        parts: Nested = {self.source_embedding: (self.src_vocab, D), self.target_embedding: (self.tgt_vocab, D)}
        for side in ("encoder", "decoder"):
            if self.positions == "learned":
                rows = self.max_length + self.position_offset  # type: ignore[operator]  # it is no None here
                parts[f"{side}.positions.W_P"] = (rows, D)
            if self.positions == "relative":
                parts[f"{side}.positions.W_B"] = (self.relative_buckets, self.n_heads)
            if self.embedding_norm:
                parts[f"{side}.embedding_norm"] = norm
        parts |= {f"encoder.{i}": encoder_layer for i in range(self.n_encoder_layers)}
        parts |= {f"decoder.{i}": decoder_layer for i in range(self.n_decoder_layers)}
        if self.has_final_norm:
            parts |= {"encoder.norm": norm, "decoder.norm": norm}
        parts["output.W"] = (D, self.tgt_vocab) if self.has_output else None
        parts["output.b"] = (self.tgt_vocab,) if self.output_bias else None
        return dict(dotted(parts))

    def side_by_side(self) -> dict[str, tuple[str, ...]]:
        """Return the names that stand side by side: one product with W_Q, W_K and W_V gives Q, K and V."""
        names = [name.removesuffix("Q") for name in self.shapes() if name.endswith("_Q")]
        return {f"{name}QKV": (f"{name}Q", f"{name}K", f"{name}V") for name in names}
