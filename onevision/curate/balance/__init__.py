"""Captions -> those that keep rare concepts and thin out frequent ones."""
