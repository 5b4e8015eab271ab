"""Curated data -> a model that has learned from them, and what that changed."""
