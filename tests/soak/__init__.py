"""Long tests of files and runs: kills, damaged files, full disks. `python tests/soak` runs them."""
