"""A built network -> the same network, faster."""
