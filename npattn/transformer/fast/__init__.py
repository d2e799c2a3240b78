"""The Transformer's mathematics, changed for speed: what training runs on.

Each file says what it equals and what it changes. To learn the model, read `npattn.transformer.reference` instead.
Tests compare this folder with it. What is as fast there, such as the layer norm, is imported from it. Decoding has a
fast path of its own, `npattn.decoding`.
"""
