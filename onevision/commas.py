r"""Items <-> one text with commas between; a comma inside an item is written "\,"."""

import re
from collections.abc import Iterable

COMMA = re.compile(r"(?<!\\),")  # between two items


def join_items(items: Iterable[object]) -> str:
    """Returns items with commas between."""
    return ",".join(str(item).replace(",", r"\,") for item in items)


def split_items(text: str) -> list[str]:
    """Returns the items of a text that `join_items` wrote."""
    return [piece.replace(r"\,", ",") for piece in COMMA.split(text)] if text else []
