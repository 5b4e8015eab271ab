"""Procedural worlds, grouped by what they draw."""
