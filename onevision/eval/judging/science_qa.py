"""ScienceQA by two: our model, which sees the image, and a text model, which may know more.

The two ways of the first LLaVA's paper (arXiv 2304.08485, section 5.2): *complement* takes the text
model's answer and ours where it has none; *judge* asks the text model again wherever the two
disagree, showing it both answers.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from onevision.errors import DataError, InputError
from onevision.eval.judging.client import Query, RefusedQueryError
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.parse import UnreadableReplyError, one_of
from onevision.eval.judging.prompts import Item, field, fill

UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Letters of the answers, None where there is none; and how they came about."""

    letters: tuple[str | None, ...]
    num_asked: int
    num_unreadable: int  # replies that are no letter


def answer_alone(items: Sequence[Item], judge: Judge) -> Ensemble:
    """Ask the text model for the letters, without the images; None where it does not know.

    An item has `question` and `choices`, and may have `hint`, as lmms-lab/ScienceQA. Raises
    DataError, JudgeError.
    """
    asked = [fill("science", "alone", question=_written(item)) for item in items]
    letters = _ask(judge, asked, [[*_letters(item), UNKNOWN] for item in items])
    return Ensemble(
        letters=tuple(None if letter == UNKNOWN else letter for letter in letters),
        num_asked=len(items),
        num_unreadable=letters.count(None),
    )


def complement(ours: Sequence[str], alone: Ensemble) -> Ensemble:
    """Take the text model's answers, and ours where it has none; asks nothing."""
    pairs = _pairs(ours, alone)
    return Ensemble(
        letters=tuple(mine if its is None else its for mine, its in pairs),
        num_asked=0,
        num_unreadable=0,
    )


def arbitrate(
    items: Sequence[Item], ours: Sequence[str], alone: Ensemble, judge: Judge
) -> Ensemble:
    """Take what both say, and ask the text model again where they differ.

    Where it has no answer of its own, or its second reply is no letter, ours stands. Raises
    DataError, JudgeError.
    """
    pairs = _pairs(ours, alone)
    open_ones = [i for i, (mine, its) in enumerate(pairs) if its is not None and its != mine]
    asked = [
        fill("science", "both", question=_written(items[i]), ours=pairs[i][0], theirs=pairs[i][1])
        for i in open_ones
    ]
    found = _ask(judge, asked, [_letters(items[i]) for i in open_ones])
    letters = {index: letter for index, letter in zip(open_ones, found, strict=True) if letter}
    return Ensemble(
        letters=tuple(letters.get(index, mine) for index, (mine, _) in enumerate(pairs)),
        num_asked=len(open_ones),
        num_unreadable=found.count(None),
    )


def _pairs(ours: Sequence[str], alone: Ensemble) -> list[tuple[str, str | None]]:
    if len(ours) != len(alone.letters):
        raise InputError(f"{len(ours)} answers of ours, {len(alone.letters)} of the text model")
    return list(zip(ours, alone.letters, strict=True))


def _ask(judge: Judge, asked: Sequence[str], choices: Sequence[Sequence[str]]) -> list[str | None]:
    ask = _asker(judge)
    with ThreadPoolExecutor(judge.config.num_parallel) as pool:
        return list(pool.map(ask, asked, choices))


def _asker(judge: Judge) -> Callable[[str, Sequence[str]], str | None]:
    def ask(question: str, choices: Sequence[str]) -> str | None:
        try:
            return one_of(judge.ask(Query(system="", user=question, max_tokens=16)), choices)
        except (UnreadableReplyError, RefusedQueryError):
            return None

    return ask


def _options(item: Item) -> list[str]:
    match item.get("choices"):
        case [_, *_] as choices:
            return [str(choice) for choice in choices]
    raise DataError(f"a ScienceQA item has choices {item.get('choices')!r}; expected a list")


def _letters(item: Item) -> list[str]:
    return [chr(ord("A") + place) for place in range(len(_options(item)))]


def _written(item: Item) -> str:
    """Return hint, question and lettered options, each on lines of its own."""
    pairs = zip(_letters(item), _options(item), strict=True)
    hint = [f"Context: {item['hint']}"] if item.get("hint") else []
    return "\n".join([*hint, field(item, "question"), *(f"{one}. {text}" for one, text in pairs)])
