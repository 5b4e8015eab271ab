r"""Text -> text without punctuation, by the rules of the VQA challenge.

FIDELITY: how a mark is treated depends on the whole text. A mark that touches a space anywhere, and
every mark of a text with a comma between digits, is deleted; others become a space. Periods are
removed unless a digit follows (the original's look-behind is misspelt and never matches), 32 at
most (the original passes the flag re.UNICODE, which is 32, as the count).
"""

import re

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32

COMMAS_BETWEEN_DIGITS = re.compile(r"(?<=\d),+(?=\d)")
ONE_COMMA_BETWEEN_DIGITS = re.compile(r"\d,\d")


def drop_punctuation(answer: str, *, digit_comma: re.Pattern[str]) -> str:
    """Deletes the marks or replaces them by spaces; `digit_comma` matches one between digits."""
    delete_all = digit_comma.search(answer) is not None
    result = answer
    for mark in _MARKS:
        delete = delete_all or f"{mark} " in answer or f" {mark}" in answer
        result = result.replace(mark, "" if delete else " ")
    return _PERIOD.sub("", result, count=_MAX_PERIODS)
