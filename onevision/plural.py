"""A number and a noun -> "1 sample", "2 samples": messages are for people to read."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Returns "1 sample", "2 samples", "1,000 samples"; `plural` is for a noun that takes no s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
