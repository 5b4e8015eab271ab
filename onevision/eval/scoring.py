"""Answers -> scores."""

import string


def normalise(answer: str) -> str:
    """Lower the case, drop punctuation at the ends, and leave single spaces between words."""
    return " ".join(answer.lower().split()).strip(string.punctuation + " ")


def exact_match(answer: str, expected: str) -> bool:
    """Whether the answer is the expected one, up to case, spacing and final punctuation."""
    return normalise(answer) == normalise(expected)
