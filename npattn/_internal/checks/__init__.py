"""Checks of arguments: `shapes` declares those of a pair, `arrays` and `scalars` check single ones.

`types` holds the types that signatures are written in. `named_arrays` compares mappings of arrays.
"""
