"""Procedural pictures, picture sets and clips whose every answer is known: seed -> Sample.

Train and held-out samples come from disjoint seeds by construction (see `sample.rng_for`).
"""
