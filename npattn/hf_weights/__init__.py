"""Exchange models with Hugging Face: a folder as downloaded, or config.json and names with NumPy arrays.

    model = npattn.hf_weights.load_folder("path/of/the/folder")                 config.json and *.safetensors
    texts = npattn.generate(model, [prompt_ids], 100, temperature=0.8)
    npattn.hf_weights.save_folder("path/of/another", model)                     `transformers` loads it

`npattn generate FOLDER "prompt"` turns text into ids and back with the package `tokenizers` and the folder's
tokenizer.json (`npattn.hf_weights.text`).

Neither `transformers` nor PyTorch is imported. These models load, with every setting of theirs that changes a number:

=========  ==================  ======================================================================================
family     model_type          what it has
=========  ==================  ======================================================================================
Llama      llama               rotary positions (default, linear, dynamic, YaRN, Llama 3), grouped queries, RMS norm
Mistral    mistral             a sliding window in every layer
Qwen3      qwen3               RMS norm of each head of queries and keys
OLMo 2     olmo2               norms after each sub-layer, and of queries and keys before the heads are split
Gemma 2    gemma2              norms before and after, caps, a window in every second layer, embeddings times √D
Gemma 3    gemma3_text         as Gemma 2, with norms of heads for the caps, and two bases of rotary positions
GPT-2      gpt2                learned positions, layer norm, biases
=========  ==================  ======================================================================================

The first seven are an `npattn.LanguageModel`. Encoder–decoders are an `npattn.Transformer`, from `load_transformer`:

=========  ==================  ======================================================================================
T5         t5                  a learned number for each distance, RMS norm, scores without scale; gates (T5 1.1, FLAN)
Marian     marian              opus-mt: sinusoids in halves, silu, a bias of the logits
BART       bart                learned positions with an offset of 2, a norm on the embeddings, a bias of the logits
=========  ==================  ======================================================================================

They run on `npattn.transformer.reference`. Their decoder starts with decoder_start_token_id, our bos_id. As in Hugging
Face, pads are left out of the gradients of the embeddings of Marian and BART: `pad_gradient` is False.

Other models, such as those with experts, are refused by their model_type. A setting that is not here is an error that
names it. So is a name, a shape or a dtype of the state that does not fit. Numbers are moved, never rounded: what is
loaded and dumped has the same bits.

**Layouts**  PyTorch stores a weight as (out, in), the transpose of ours; GPT-2 as we do. Our W_1 of a gated layer is
gate_proj and up_proj side by side. GPT-2's c_attn is our W_Q, W_K and W_V side by side.

**Tied weights**  Files leave out lm_head.weight when it is the embedding; `state_dict()` holds both. Both load. So do
the three names that encoder–decoders have for one embedding.

>>> import numpy as np
>>> from npattn import LanguageModel, LanguageModelConfig
>>> model = LanguageModel(LanguageModelConfig(9, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=16))
>>> config, state = dump_language_model(model)
>>> config["model_type"], state["model.layers.0.self_attn.k_proj.weight"].shape
('llama', (4, 8))
>>> twin = load_language_model(config, state)
>>> twin.params == model.params
True
>>> loss, grads = model.loss_and_gradients(np.array([[1, 5, 6, 2]]))
>>> dump_gradients(model, grads)["model.layers.0.mlp.gate_proj.weight"].shape
(16, 8)
>>> load_language_model(config | {"rope_scaling": {"rope_type": "longrope"}, "rope_parameters": None}, state)
Traceback (most recent call last):
ValueError: config: rope_type: expected one of default, linear, dynamic, yarn, llama3, got 'longrope'

>>> from npattn import Transformer, TransformerConfig
>>> choices = {"norm": "pre", "norm_type": "rms", "bias": False, "tie": "all", "scale_embedding": False,
...            "positions": "relative", "attention_scale": 1.0, "scale_output": True, "d_head": 3}
>>> rates = {"attention_dropout": 0.1, "activation_dropout": 0.1, "final_dropout": True}
>>> t5 = TransformerConfig(9, 9, 8, 2, 16, 1, 1, **choices, **rates)
>>> config, state = dump_transformer(Transformer(t5))
>>> config["model_type"], state["encoder.block.0.layer.0.SelfAttention.q.weight"].shape
('t5', (6, 8))
>>> load_transformer(config, state).config == t5
True
"""

from npattn.hf_weights.encoder_decoders import dump_transformer, load_transformer
from npattn.hf_weights.folder import load_folder, save_folder
from npattn.hf_weights.language_models import dump_gradients, dump_language_model, load_language_model

__all__ = [
    "dump_gradients", "dump_language_model", "dump_transformer", "load_folder", "load_language_model",
    "load_transformer", "save_folder",
]  # fmt: skip
