"""What the other folders share and no user sees: checks of arguments, files, and the system's threads and memory.

No mathematics lives here.
"""
