"""The sizes and choices that make a language model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from npattn._internal.checks import check_choice, check_flag, check_number, check_size, shown
from npattn.attention.dot_product import SCALE, SOFTCAP
from npattn.layers.layer_norm import EPS
from npattn.layers.rotary_frequencies import RotaryFrequencies, rotary_frequencies
from npattn.transformer.config import MOST_LAYERS
from npattn.transformer.parameters import Nested, dotted

CHOICES = {
    "positions": ("rotary", "learned"),
    "pairing": ("halves", "neighbours"),
    "norm": ("rms", "layer"),
    "norm_position": ("pre", "post", "both"),
    "qk_norm": ("none", "rms", "wide_rms"),
    "activation": ("silu", "gelu", "gelu_tanh", "relu"),
}
#: The turns between which a scaling blends, as in `npattn.layers.rotary_frequencies`.
DEFAULT_TURNS = {"yarn": (1.0, 32.0), "llama3": (1.0, 4.0)}
LAYER_TYPES = ("full_attention", "sliding_attention")


@dataclass(frozen=True)
class RotarySettings:
    """How far rotary positions turn: the arguments of `npattn.layers.rotary_frequencies`, which has the formulas.

    - base: the base of the frequencies.
    - scaling: "none", "linear", "ntk", "dynamic", "yarn" or "llama3".
    - s: by how much the length of training is exceeded, 1 or more.
    - original_length: L, the length of training, for "dynamic", "yarn" and "llama3".
    - turns: the least and the most turns within L between which "yarn" and "llama3" blend; None for their defaults.
    - truncate: True rounds the ends of the ramp of "yarn" to whole pairs.
    - factor: multiplies cos and sin; None for 0.1 ln s + 1 with "yarn" and 1 otherwise.

    Raises ValueError that names the field for a number out of range, TypeError for a field of a wrong type.

    >>> RotarySettings(scaling="linear", s=4).frequencies(4, 100).theta
    array([0.25  , 0.0025])
    """

    base: float = 10000.0
    scaling: Literal["none", "linear", "ntk", "dynamic", "yarn", "llama3"] = "none"
    s: float = 1.0
    original_length: int | None = None
    turns: tuple[float, float] | None = None
    truncate: bool = True
    factor: float | None = None

    def __post_init__(self) -> None:
        turns = DEFAULT_TURNS.get(self.scaling) if self.turns is None else self.turns
        object.__setattr__(self, "turns", tuple(turns) if isinstance(turns, list) else turns)   # JSON has a list
        rotary_frequencies(2, **dataclasses.asdict(self))     # checks every field

    def frequencies(self, width: int, length: int | None = None) -> RotaryFrequencies:
        """Return the frequencies.

        - width: the number of columns that turn.
        - length: of the sequence, for dynamic scaling; None for no more than that of training.
        """
        return rotary_frequencies(width, length=length, **dataclasses.asdict(self))


@dataclass(frozen=True)
class LanguageModelConfig:
    """The sizes and choices of a decoder-only model. The defaults are those of Llama.

    - vocab: V, the number of ids.
    - d_model: D, the width of every row.
    - n_layers: the number of layers.
    - n_heads: H, the number of query heads.
    - n_kv_heads: H_K, the number of heads of keys and values, which divides H; None for H.
    - d_head: the width of a head; None for D/H.
    - d_ff: F, the hidden width of the feed-forward layers; None for 4 D.
    - max_length: the longest sequence. Learned positions have a row for each place and need it; others ignore it.
    - positions: "rotary" turns queries and keys, "learned" adds a row of a table to each embedding.
    - rotary: RotarySettings of the layers.
    - rotary_sliding: RotarySettings of the layers of the type "sliding_attention"; None for `rotary`.
    - pairing: which columns turn together, "halves" or "neighbours".
    - layer_types: the word of each layer, "full_attention" or "sliding_attention"; None for full attention in all.
    - window: W, how many keys a query of sliding attention sees, itself included.
    - attention_scale: multiplies Q Kᵀ; None for 1/√d_head.
    - attention_softcap: c, keeps scores between −c and c; None for no cap.
    - attention_bias: True adds biases to the projections of queries, keys, values and of the output.
    - qk_norm: "rms" normalises each head of queries and keys, "wide_rms" all heads together, "none" neither.
    - norm: "rms" or "layer".
    - norm_position: "pre", Y = X + f(norm(X)), "post", Y = X + norm(f(X)), or "both", Y = X + norm(f(norm(X))).
    - norm_eps: ε of every norm.
    - norm_bias: True adds β to layer norms.
    - unit_offset: True makes every norm multiply by 1 + γ, as Gemma's do.
    - activation: φ of the feed-forward layers, "silu", "gelu", "gelu_tanh" or "relu".
    - gated: True for (φ(X W_G) ⊙ X W_U) W_2, which has no "relu"; False for φ(X W_1) W_2.
    - feed_forward_bias: True adds biases to the feed-forward layers.
    - scale_embedding: True multiplies embeddings by √D.
    - tie: True takes the embedding as output projection.
    - logit_softcap: c, keeps logits between −c and c; None for no cap.
    - dropout: the probability that an entry of an embedding, or of what a sub-layer adds, is zeroed.
    - attention_dropout: the probability that a weight of an attention is zeroed.
    - pad_id: the id that fills rows after their end. It does not count in the loss; None for no such id.
    - bos_id, eos_id: the ids of begin and end, one id or several; None for none. The model does not use them.

    Raises ValueError that names the field, the value and what was expected; TypeError for a field of a wrong type.

    >>> LanguageModelConfig(100, d_model=32, n_layers=2, n_heads=4, n_kv_heads=3)
    Traceback (most recent call last):
    ValueError: n_kv_heads: expected a divisor of n_heads=4, got 3
    """

    vocab: int
    _: KW_ONLY
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int = None  # type: ignore[assignment]
    d_head: int = None  # type: ignore[assignment]
    d_ff: int = None  # type: ignore[assignment]
    max_length: int | None = None
    positions: Literal["rotary", "learned"] = "rotary"
    rotary: RotarySettings = RotarySettings()
    rotary_sliding: RotarySettings = None  # type: ignore[assignment]
    pairing: Literal["halves", "neighbours"] = "halves"
    layer_types: tuple[str, ...] = None  # type: ignore[assignment]
    window: int | None = None
    attention_scale: float | None = None
    attention_softcap: float | None = None
    attention_bias: bool = False
    qk_norm: Literal["none", "rms", "wide_rms"] = "none"
    norm: Literal["rms", "layer"] = "rms"
    norm_position: Literal["pre", "post", "both"] = "pre"
    norm_eps: float = 1e-6
    norm_bias: bool = False
    unit_offset: bool = False
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu"
    gated: bool = True
    feed_forward_bias: bool = False
    scale_embedding: bool = False
    tie: bool = False
    logit_softcap: float | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    pad_id: int | None = None
    bos_id: int | tuple[int, ...] | None = None
    eos_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("vocab", "d_model", "n_layers", "n_heads"):
            self._set(name, check_size(name, getattr(self, name), least=1))
        if self.n_layers > MOST_LAYERS:
            raise ValueError(f"n_layers: expected at most {MOST_LAYERS:,}, got {self.n_layers:,}")
        if self.d_head is None and self.d_model % self.n_heads:
            raise ValueError(f"d_model: expected a multiple of n_heads={self.n_heads}, or a d_head, got {self.d_model}")
        for name, default in (
            ("n_kv_heads", self.n_heads), ("d_head", self.d_model // self.n_heads), ("d_ff", 4 * self.d_model),
        ):  # fmt: skip
            value = getattr(self, name)
            self._set(name, check_size(name, default if value is None else value, least=1))
        for name in ("max_length", "window"):
            if getattr(self, name) is not None:
                self._set(name, check_size(name, getattr(self, name), least=1))
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in (
            "attention_bias", "norm_bias", "unit_offset", "gated", "feed_forward_bias", "scale_embedding", "tie",
        ):  # fmt: skip
            self._set(name, check_flag(name, getattr(self, name)))
        for name in ("dropout", "attention_dropout"):
            self._set(name, check_number(name, getattr(self, name), 0, 1))
        self._set("norm_eps", check_number("norm_eps", self.norm_eps, EPS.low, EPS.high))
        for name, interval in (
            ("attention_scale", SCALE), ("attention_softcap", SOFTCAP), ("logit_softcap", SOFTCAP),
        ):  # fmt: skip
            if getattr(self, name) is not None:
                self._set(name, check_number(name, getattr(self, name), interval.low, interval.high))
        self._set("rotary", rotary_settings("rotary", self.rotary))
        sliding = self.rotary if self.rotary_sliding is None else self.rotary_sliding
        self._set("rotary_sliding", rotary_settings("rotary_sliding", sliding))
        self._set_layer_types()
        if self.pad_id is not None and check_size("pad_id", self.pad_id) >= self.vocab:
            raise ValueError(f"pad_id: expected an id below vocab={self.vocab}, got {self.pad_id}")
        for name in ("pad_id", "bos_id", "eos_id"):
            self._set(name, plain_ids(name, getattr(self, name)))
        self._check_together()

    def _set(self, name: str, value: Any) -> None:
        """Replace what JSON has no type for, such as a number of NumPy, and None where it stands for a number."""
        object.__setattr__(self, name, value)

    def _set_layer_types(self) -> None:
        words = ["full_attention"] * self.n_layers if self.layer_types is None else self.layer_types
        if not isinstance(words, tuple | list) or len(words) != self.n_layers:
            raise ValueError(f"layer_types: expected a word for each of {self.n_layers} layers, got {shown(words)}")
        for word in words:
            check_choice("layer_types", word, LAYER_TYPES)
        self._set("layer_types", tuple(words))

    def _check_together(self) -> None:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads: expected a divisor of n_heads={self.n_heads}, got {self.n_kv_heads}")
        if self.positions == "rotary" and self.d_head % 2:
            raise ValueError(f"d_head: expected an even number for rotary positions, got {self.d_head}")
        if self.positions == "learned" and self.max_length is None:
            raise ValueError("max_length: expected a number for learned positions, got None")
        if self.window is None and "sliding_attention" in self.layer_types:
            raise ValueError("window: expected a number for sliding attention, got None")
        if self.norm == "layer" and self.unit_offset:
            raise ValueError('unit_offset: expected False for norm="layer", got True')
        if self.norm == "rms" and self.norm_bias:
            raise ValueError('norm_bias: expected False for norm="rms", got True')
        if self.gated and self.activation == "relu":
            raise ValueError('gated: expected False for activation="relu", got True')

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name: embeddings, layers, last norm, output projection."""
        D, F = self.d_model, self.d_ff
        queries, keys = self.n_heads * self.d_head, self.n_kv_heads * self.d_head
        attention: Nested = {"W_Q": (D, queries), "W_K": (D, keys), "W_V": (D, keys), "W_O": (queries, D)}
        if self.attention_bias:
            attention |= {"b_Q": (queries,), "b_K": (keys,), "b_V": (keys,), "b_O": (D,)}
        if self.qk_norm != "none":
            wide = self.qk_norm == "wide_rms"
            attention |= {"gamma_Q": (queries if wide else self.d_head,), "gamma_K": (keys if wide else self.d_head,)}
        feed_forward: Nested = {"W_1": (D, 2 * F if self.gated else F), "W_2": (F, D)}
        if self.feed_forward_bias:
            feed_forward |= {"b_1": feed_forward["W_1"][1:], "b_2": (D,)}
        norm: Nested = {"gamma": (D,), "beta": (D,)} if self.norm_bias else {"gamma": (D,)}
        layer: Nested = {"attention": attention, "feed_forward": feed_forward}
        if self.norm_position != "post":
            layer |= {"attention_norm": norm, "feed_forward_norm": norm}
        if self.norm_position != "pre":
            layer |= {"attention_post_norm": norm, "feed_forward_post_norm": norm}
        parts: Nested = {"embedding.W_E": (self.vocab, D)}
        if self.positions == "learned":
            parts["embedding.W_P"] = (self.max_length, D)
        parts |= {f"layers.{i}": layer for i in range(self.n_layers)}
        parts["norm"] = norm
        if not self.tie:
            parts["output.W"] = (D, self.vocab)
        return dict(dotted(parts))

    def side_by_side(self) -> dict[str, tuple[str, ...]]:
        """Return the names that stand side by side: one product with W_Q, W_K and W_V gives Q, K and V."""
        names = [name.removesuffix("Q") for name in self.shapes() if name.endswith(("W_Q", "b_Q"))]
        return {f"{name}QKV": (f"{name}Q", f"{name}K", f"{name}V") for name in names}

    def frequencies(self, layer_type: str, length: int | None = None) -> RotaryFrequencies | None:
        """Return the rotary frequencies of a layer; None for learned positions.

        - layer_type: "full_attention" or "sliding_attention".
        - length: of the sequence, for dynamic scaling; None for no more than that of training.
        """
        check_choice("layer_type", layer_type, LAYER_TYPES)
        settings = self.rotary if layer_type == "full_attention" else self.rotary_sliding
        return None if self.positions == "learned" else settings.frequencies(self.d_head, length)


def rotary_settings(name: str, value: Any) -> RotarySettings:
    """Return the settings, which JSON has as a mapping."""
    if isinstance(value, Mapping):
        return RotarySettings(**value)
    if not isinstance(value, RotarySettings):
        raise TypeError(f"{name}: expected RotarySettings, got {shown(value)}")
    return value


def plain_ids(name: str, value: Any) -> int | tuple[int, ...] | None:
    """Return one id or several as numbers of Python; None for none."""
    if isinstance(value, tuple | list):
        return tuple(check_size(name, each) for each in value)
    return None if value is None else check_size(name, value)
