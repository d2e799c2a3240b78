"""The language model's mathematics, changed for speed: what training and generation run on.

Each file says what it equals and what it changes. To learn the model, read `npattn.language_model.reference` instead.
Tests compare this folder with it. What is as fast there, such as norms and the embedding, is imported from it.
"""
