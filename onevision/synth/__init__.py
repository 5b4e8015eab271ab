"""Procedural pictures and clips whose every answer is known: (split, index) -> Sample.

Training and held-out samples come from disjoint seeds by construction (see `sample.rng_for`).
"""
