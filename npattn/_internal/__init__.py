"""Private code that the other folders share: checks of arguments, files, and the system's threads and memory.

There is no mathematics here.
"""
