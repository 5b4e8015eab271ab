"""Bytes of a body -> a JSON object, within bounds of memory and time.

    {"url": "data:image/png;base64,iVBORw0..."}  ->  {"url": "<name>"}   parsed; at most 2 MiB
                                                     <name>: iVBORw0...  put back afterwards

Long plain strings, which media are, are cut out first, so that what is parsed is small and bounded
whatever the body holds. A parser would need 20 times the memory of a hostile body, and hold the
interpreter's lock for seconds.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from onevision.serve.schema.problems import ApiError

MAX_DEPTH = 64
# Strings of fewer bytes are parsed where they stand.
LONG_BYTES = 4096
CHUNK_BYTES = 1 << 20
QUOTE, BACKSLASH = ord('"'), ord("\\")
SHORT_RUN = 64
# An escape that may be half of a surrogate pair, which is no character and cannot be written.
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
Json = dict[str, Any]  # Any: whatever JSON holds


def parse_object(body: bytes | bytearray, *, most_bytes: int, most_items: int) -> Json:
    """Reads a JSON object in UTF-8. Raises ApiError: no NaN, no repeated key, limited depth.

    At most `most_bytes` stand beside long plain strings, and at most `most_items` values are
    within.
    """
    cuts = _find_long_strings(body, most_quotes=most_bytes)
    size = len(body) - sum(end - begin for begin, end in cuts)
    if size > most_bytes:
        raise _too_large(f"{size:,} bytes beside its media; expected at most {most_bytes:,}")
    names = {f"{secrets.token_hex(16)}{number}": cut for number, cut in enumerate(cuts)}
    try:
        value = _load(_without(body, names))
        if not isinstance(value, dict):
            raise ValueError("it is not an object")
        _put_back(value, lambda text: _read(body, names.get(text)), most_items=most_items)
    except RecursionError as error:
        raise _invalid(f"it is nested more than {MAX_DEPTH} deep") from error
    except UnicodeDecodeError as error:
        raise _invalid("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        place = error.pos + sum(end - begin - 33 for begin, end in cuts if begin < error.pos)
        raise _invalid(f"{error.msg} near byte {max(place, 0)}") from error
    except ValueError as error:
        raise _invalid(str(error)[:100]) from error
    return value


def _find_long_strings(body: bytes | bytearray, *, most_quotes: int) -> list[tuple[int, int]]:
    r"""Returns where the contents of long strings begin and end: plain ASCII without escapes.

    "\/" is the one escape that they may have; PHP writes every slash so.
    """
    quotes = _find_quotes(body, most=most_quotes)
    begins, ends = quotes[0::2] + 1, quotes[1::2]
    begins = begins[: len(ends)]
    is_long = ends - begins >= LONG_BYTES
    codes = np.frombuffer(body, np.uint8)
    found = list[tuple[int, int]]()
    for begin, end in zip(begins[is_long].tolist(), ends[is_long].tolist(), strict=True):
        piece = codes[begin:end]
        if piece.min() < 0x20 or piece.max() > 0x7E:
            continue
        if body.count(b"\\", begin, end) == body.count(b"\\/", begin, end):
            found.append((begin, end))
    return found


def _find_quotes(body: bytes | bytearray, *, most: int) -> np.ndarray:
    """Returns the places of all quotes that are not escaped."""
    codes, count = np.frombuffer(body, np.uint8), 0
    places = [np.zeros(0, np.int64)]
    for begin in range(0, len(body), CHUNK_BYTES):
        found = np.flatnonzero(codes[begin : begin + CHUNK_BYTES] == QUOTE) + begin
        count += len(found)
        if count > most:
            raise _too_large(f"more than {most:,} quotes")
        places.append(found)
    quotes = np.concatenate(places)
    is_escaped = _count_backslashes(body, quotes) % 2 == 1
    return quotes[~is_escaped]


def _count_backslashes(body: bytes | bytearray, quotes: np.ndarray) -> np.ndarray:
    """Counts the backslashes directly before each quote."""
    codes, counts = np.frombuffer(body, np.uint8), np.zeros(len(quotes), np.int64)
    open_runs = np.arange(len(quotes))
    for length in range(1, SHORT_RUN + 1):  # all quotes at a time, a backslash per turn
        places = quotes[open_runs] - length
        open_runs = open_runs[(places >= 0) & (codes[places] == BACKSLASH)]
        counts[open_runs] = length
        if not len(open_runs):
            return counts
    for index in open_runs.tolist():  # few: each has a long run before it
        before = int(quotes[index - 1]) + 1 if index else 0
        run = body[before : int(quotes[index])]
        counts[index] = len(run) - len(run.rstrip(b"\\"))
    return counts


def _without(body: bytes | bytearray, names: dict[str, tuple[int, int]]) -> bytes:
    """Returns the body with names in place of its long strings."""
    pieces, last = list[bytes](), 0
    for name, (begin, end) in names.items():
        pieces += [bytes(body[last:begin]), name.encode()]
        last = end
    return b"".join([*pieces, bytes(body[last:])])


def _read(body: bytes | bytearray, cut: tuple[int, int] | None) -> str | None:
    """Returns a string that was cut out."""
    if cut is None:
        return None
    text = str(memoryview(body)[slice(*cut)], "ascii")
    return text.replace("\\/", "/") if "\\" in text else text


def _load(text: bytes) -> Any:  # Any: see above
    value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    return _without_half_pairs(value) if SURROGATE.search(text) else value


def _put_back(value: Json, read: Callable[[str], str | None], *, most_items: int) -> None:
    """Puts long strings back into a value. Raises ApiError if it has too many values."""
    depth, count, level = 0, 0, list[Any]([value])  # Any: see above
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise RecursionError
        count += sum(map(len, level))
        if count > most_items:
            raise _too_large(f"more than {most_items:,} values")
        for outer in level:
            places = outer.items() if isinstance(outer, dict) else enumerate(outer)
            for place, inner in places:
                if isinstance(place, str) and read(place) is not None:
                    raise ValueError(f"a key has more than {LONG_BYTES:,} characters")
                if isinstance(inner, str) and (text := read(inner)) is not None:
                    outer[place] = text
        level = [inner for outer in level for inner in _containers_in(outer)]


def _invalid(reason: str) -> ApiError:
    return ApiError(f"the body cannot be read as a JSON object: {reason}", code="invalid_json")


def _too_large(reason: str) -> ApiError:
    return ApiError(f"the body has {reason}", status=413, code="request_too_large")


def _unique(pairs: list[tuple[str, Any]]) -> Json:  # Any: see above
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("an object has a key twice")
    return values


def _without_half_pairs(value: Any) -> Any:  # Any: see above
    """Returns a value with "?" for half surrogate pairs, as the tokenizer reads them."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode(errors="replace"), object_pairs_hook=_unique)
    return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def depth_of(value: Any) -> int:  # Any: see above
    """Returns how deep objects and lists are nested in a value; 0 for a number or a string."""
    depth, level = 0, list(_containers_in([value]))
    while level:
        depth += 1
        level = [inner for outer in level for inner in _containers_in(outer)]
    return depth


def _containers_in(outer: Any) -> Iterator[Any]:  # Any: see above
    for inner in outer.values() if isinstance(outer, dict) else outer:
        if isinstance(inner, (dict, list)):
            yield inner
