"""Coloured shapes in single pictures, and texts about them."""
