"""Settings of the operating system and of the process.

- `blas_threads` holds BLAS to one thread.
- `memory` keeps freed memory in the process.
- `workers` runs tasks in threads.
"""
