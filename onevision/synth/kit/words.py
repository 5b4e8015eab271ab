"""Numbers, lists and names in, English out: "two red stars", "a, b and c", "third".

plural("box")               -> "boxes"
number_of(3, "red star")    -> "3 red stars"
join(["red", "blue"])       -> "red and blue"
article("orange ring")      -> "an orange ring"
"""

from collections.abc import Iterable

ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    *("tenth", "eleventh", "twelfth"),
)


def plural(noun: str) -> str:
    """Returns a noun's plural."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def number_of(count: int, noun: str) -> str:
    """Puts a count before a noun: "1 star", "3 stars"."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def article(noun: str) -> str:
    """Puts "a" or "an" before a noun."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def join(words: Iterable[str], *, comma: str = ", ", last: str = " and ") -> str:
    """Joins words to a list: "a, b and c"; no words are "none"."""
    *rest, final = list(words) or ["none"]
    return f"{comma.join(rest)}{last}{final}" if rest else final


def yes_or_no(truth: object) -> str:
    """Returns the answer to a closed question."""
    return "yes" if truth else "no"


def split(text: str) -> tuple[str, ...]:
    """Returns the items of a list that are set apart by commas or line breaks."""
    return tuple(item.strip() for item in text.replace("\n", ",").split(",") if item.strip())
