"""Conversation -> ModelInputs: training and serving share this code."""
