"""Logits -> answer."""
