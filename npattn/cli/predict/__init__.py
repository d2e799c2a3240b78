"""`npattn predict`: the outputs of a trained model for texts.

`command` is the command, `texts` reads the texts, `steps` says how likely each symbol was, and `folder` asks a model
in a folder of Hugging Face.
"""
