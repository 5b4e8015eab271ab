"""Answer + options -> the letter it chooses, by each of the rules in use.

If a rule finds nothing, the reference picks a letter at random. `guess` picks one that depends only
on the item and the answer, so that a score is a function of its inputs.
"""

import re
import string
from collections.abc import Sequence
from random import Random

LETTERS = string.ascii_uppercase

_ENDS = (",", ".", "!", "?", ";", ":", "'")
_MIN_WORDS_OF_CONTENT = 6

# FIDELITY: the phrases overlap; each is looked up on its own.
_ANSWER_PHRASES = (
    "the answer is",
    "answer is",
    "the correct answer is",
    "correct answer is",
    "the best answer is",
    "best answer is",
    "the correct option is",
    "correct option is",
    "the best option is",
    "best option is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "옵션",
    "정답은",
    "답은",
    "답:",
    "答案是",
    "答案为",
    "选",
    "答えは",
)

# Formats and how much each is trusted, in the order that breaks ties.
_FORMATS = (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2))
_PHRASE, _START, _END = 7, 10, 9


def letter(position: int) -> str:
    """Returns the letter of an option by its position from 0."""
    return LETTERS[position]


def guess(letters: str, *, key: str) -> str:
    """Picks a letter at random, always the same for the same key."""
    return Random(key).choice(letters)


def find_letter_before_period(answer: str) -> str:
    """Returns "B" for an answer that begins with "B.", else the answer (AI2D, MuirBench)."""
    found = re.match(r"\s*([A-Z])\.", answer)
    return found.group(1) if found else answer


def find_last_option(answer: str, options: Sequence[str], *, key: str) -> str:
    """Returns the option named last: MMMU's rule, also used by NExT-QA and LongVideoBench.

    Looks for letters as "(A)", else as "A ", else as "A."; else, in answers of more than five
    words, for the options' own texts. Yue et al., "MMMU", 2024; eval_utils.py.

    FIDELITY: of several, the last *stand-alone* letter wins (the "A " in "DNA " does not stand
    alone), or the first of them if none stands alone.
    """
    answer = _pad(answer)
    letters = LETTERS[: len(options)]
    for form, place in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        found = [letter for letter in letters if form.format(letter) in answer]
        if found:
            return max(found, key=lambda letter: answer.rfind(place.format(letter)))
    positions = _option_positions(answer, options)
    return max(positions, key=positions.__getitem__) if positions else guess(letters, key=key)


def find_first_option(answer: str, options: Sequence[str], *, key: str) -> str:
    """Returns the option named first: EgoSchema's variant of `find_last_option`.

    FIDELITY: "(A)", "A " and "A." all count, each at its *last* position in the answer.
    """
    answer = _pad(answer)
    letters = LETTERS[: len(options)]
    positions = [
        (answer.rfind(form.format(letter)), letter)
        for form in ("({})", "{} ", "{}.")
        for letter in letters
        if form.format(letter) in answer
    ]
    if positions:
        return min(positions, key=lambda found: found[0])[1]
    by_text = _option_positions(answer, options)
    return min(by_text, key=by_text.__getitem__) if by_text else guess(letters, key=key)


def extract_mcq_letter(answer: str, letters: str) -> str:
    """Returns the most trusted letter, "" if there is none: lmms-eval's `extract_mcq_answer`.

    In order of trust: at the start, at the end, after a phrase such as "the answer is", as "(A)",
    "A.", "A:", "A)", "A ", anywhere. Of several, the last wins.
    """
    answer = answer.strip()
    if not answer:
        return ""
    answer = _pad(answer, ends=(*_ENDS, '"'))
    found = [
        (trust, answer.rfind(form.format(letter)), letter)
        for form, trust in _FORMATS
        for letter in letters
        if form.format(letter) in answer
    ]
    found += _after_phrases(answer, letters) + _at_the_ends(answer, letters)
    found = found or [(0, answer.rfind(letter), letter) for letter in letters if letter in answer]
    return max(found, key=lambda entry: entry[:2])[2] if found else ""


def find_stated_letter(answer: str, letters: str) -> str:
    """Returns the letter an answer states, "" if none: BLINK's rule in lmms-eval 0.7.3.

    A first line that is hardly more than a letter; else the last "answer is (B)"; else the last
    "(B)"; else a letter at the very start.
    """
    answer = answer.strip()
    one = f"[{re.escape(letters)}]"
    first_line = answer.split("\n", 1)[0].strip()
    if len(first_line) <= 4 and (
        found := re.match(rf"\(?({one})\)?[.\s:,)]*$", first_line, re.IGNORECASE)
    ):
        return found.group(1).upper()
    statement = rf"answers?(?:\s+is)?\s*[:\-]?\s*\(?({one})\)?(?![A-Za-z])"
    stated = re.findall(statement, answer, re.IGNORECASE) or re.findall(rf"\(({one})\)", answer)
    if stated:
        return stated[-1].upper()
    leading = re.match(rf"[(\s]*({one})", answer, re.IGNORECASE)
    return leading.group(1).upper() if leading else ""


def find_first_letter(answer: str, letters: str, *, phrases: Sequence[str]) -> str:
    """Deletes the phrases and returns the first of the letters, "" if there is none."""
    for phrase in phrases:
        answer = answer.replace(phrase, "")
    return next((character for character in answer if character in letters), "")


def _pad(answer: str, *, ends: Sequence[str] = _ENDS) -> str:
    for mark in ends:  # in turn: "A'." loses both marks, "A.'" only the quote
        answer = answer.strip(mark)
    return f" {answer} "


def _option_positions(answer: str, options: Sequence[str]) -> dict[str, int]:
    if len(answer.split()) < _MIN_WORDS_OF_CONTENT:
        return {}
    answer = answer.lower()
    return {
        letter: answer.rfind(option.lower())
        for letter, option in zip(LETTERS, options, strict=False)
        if option.lower() in answer
    }


def _after_phrases(answer: str, letters: str) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    lowered = answer.lower()
    for phrase in _ANSWER_PHRASES:
        start = lowered.find(phrase)
        if start >= 0:
            after = start + len(phrase)
            places = ((answer.find(letter, after), letter) for letter in letters)
            found += [(_PHRASE, place, letter) for place, letter in places if place >= 0]
    return found


def _at_the_ends(answer: str, letters: str) -> list[tuple[int, int, str]]:
    inner = answer.strip()
    found: list[tuple[int, int, str]] = []
    for letter in letters:
        if inner.startswith(letter) and not inner[1:2].isalpha():
            found.append((_START, 0, letter))
        if inner.endswith(letter) and not inner[-2:-1].isalpha():
            found.append((_END, len(answer) - 1, letter))
    return found
