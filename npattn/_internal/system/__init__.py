"""Settings of the operating system and of the process.

- `blas_threads` holds BLAS to one thread.
- `underflow` makes numbers too small for their dtype no error, and keeps none of them.
- `memory` keeps freed memory in the process.
- `workers` runs tasks in threads.
"""
