"""The operating system: `blas_threads` and `memory` change settings of the process, `workers` runs tasks in threads."""
