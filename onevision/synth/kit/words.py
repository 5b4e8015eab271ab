"""Numbers, lists and names in, English out: "two red stars", "a, b and c", "third".

plural("box")               -> "boxes"
counted(3, "red star")      -> "3 red stars"
listing(["red", "blue"])    -> "red and blue"
"""

from collections.abc import Sequence

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


def plural(noun: str) -> str:
    """Return a noun's plural."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def counted(count: int, noun: str) -> str:
    """Put a count before a noun: "1 star", "3 stars"."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def article(noun: str) -> str:
    """Put "a" or "an" before a noun."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def listing(words: Sequence[str]) -> str:
    """Join words as one says them: "a, b and c"; no words are "none"."""
    if len(words) < 2:
        return words[0] if words else "none"
    return f"{', '.join(words[:-1])} and {words[-1]}"


def yes_or_no(truth: bool) -> str:
    """Return the answer to a closed question."""
    return "yes" if truth else "no"
