"""Where snapshots lie, and who writes them while training continues.

place     a directory, or any address that fsspec knows
saver     the run's snapshots, written one after the other, in a thread if asked
"""
