"""A built network -> the same network, faster. `apply.py` is the door; model/ knows none of it."""
