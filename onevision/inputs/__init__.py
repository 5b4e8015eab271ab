"""Conversation -> ModelInputs: training and serving use the very same code."""
