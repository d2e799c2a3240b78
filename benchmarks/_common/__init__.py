"""What the benchmarks share: `harness` runs scripts in processes that take turns, `machine` describes the computer,
`sizes`, `models` and `torch_search` make what is measured, `products` its matrix products, `tables` and `drawing` the
reports.
"""
