"""Files: `whole` replaces a file wholly or not at all, `npz` reads and writes archives of arrays, `checkpoint` adds
metadata and a checksum, `state_files` exchanges arrays with other programs.
"""
