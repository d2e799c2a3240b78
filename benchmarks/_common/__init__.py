"""What the benchmarks share. `harness` runs scripts in processes that alternate. `machine` describes the computer.
`sizes`, `models` and `torch_search` make what is measured, and `products` its matrix products. `tables` and `drawing`
make the reports.
"""
