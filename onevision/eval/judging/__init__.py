"""Benchmarks whose answers are scored by another model, the judge."""
