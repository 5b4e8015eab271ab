"""Coloured things, solids and writing in single pictures."""
