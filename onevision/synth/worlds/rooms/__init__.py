"""Shaded solids in a room."""
