"""Benchmarks scored by a judging model."""
