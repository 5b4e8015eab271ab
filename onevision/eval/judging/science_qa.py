"""ScienceQA with two models: ours, which sees the image, and a text model, which may know more.

The two ensembles of the first LLaVA paper (arXiv 2304.08485, section 5.2): *complement* takes the
text model's answer, or ours if it has none; *arbitrate* asks the text model again if the two
disagree, showing it both answers.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from onevision.endpoint import RefusedQueryError
from onevision.errors import DataError, InputError
from onevision.eval.judging.client import Query
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.parse import UnreadableReplyError, parse_choice
from onevision.eval.judging.prompts import fill_prompt, read_field
from onevision.eval.scoring.scorer import Item
from onevision.plural import counted

UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, kw_only=True)
class EnsembleAnswers:
    """The letter of each answer, None if there is none, and how they came about."""

    letters: tuple[str | None, ...]
    num_asked: int
    num_unreadable: int  # replies that are not a letter


def answer_without_images(items: Sequence[Item], judge: Judge) -> EnsembleAnswers:
    """Asks the text model for letters, without the images; None if it does not know.

    An item has `question` and `choices`, and may have `hint`, as in lmms-lab/ScienceQA. Raises
    DataError, JudgeError.
    """
    prompts = [fill_prompt("science", "alone", question=_format_question(item)) for item in items]
    letters = _ask_all(judge, prompts, [[*_letters(item), UNKNOWN] for item in items])
    return EnsembleAnswers(
        letters=tuple(None if letter == UNKNOWN else letter for letter in letters),
        num_asked=len(items),
        num_unreadable=letters.count(None),
    )


def complement(ours: Sequence[str], text_only: EnsembleAnswers) -> EnsembleAnswers:
    """Takes the text model's answers, or ours if it has none. Asks nothing."""
    letters = tuple(own if theirs is None else theirs for own, theirs in _pair(ours, text_only))
    return EnsembleAnswers(letters=letters, num_asked=0, num_unreadable=0)


def arbitrate(
    items: Sequence[Item], ours: Sequence[str], text_only: EnsembleAnswers, judge: Judge
) -> EnsembleAnswers:
    """Takes the answers on which both agree, and asks the text model again about the others.

    If it has no answer of its own, or its second reply is not a letter, ours stands. Raises
    DataError, JudgeError.
    """
    disputed = {
        index: (own, theirs)
        for index, (own, theirs) in enumerate(_pair(ours, text_only))
        if theirs is not None and theirs != own
    }
    prompts = [
        fill_prompt("science", "both", question=_format_question(items[i]), ours=own, theirs=theirs)
        for i, (own, theirs) in disputed.items()
    ]
    found = _ask_all(judge, prompts, [_letters(items[index]) for index in disputed])
    settled = {index: letter for index, letter in zip(disputed, found, strict=True) if letter}
    return EnsembleAnswers(
        letters=tuple(settled.get(index, own) for index, own in enumerate(ours)),
        num_asked=len(disputed),
        num_unreadable=found.count(None),
    )


def _pair(ours: Sequence[str], text_only: EnsembleAnswers) -> list[tuple[str, str | None]]:
    if len(ours) != len(text_only.letters):
        raise InputError(
            f"{counted(len(ours), 'answer')} of ours and {len(text_only.letters)} of the text model"
        )
    return list(zip(ours, text_only.letters, strict=True))


def _ask_all(
    judge: Judge, prompts: Sequence[str], choices: Sequence[Sequence[str]]
) -> list[str | None]:
    def ask(prompt: str, allowed: Sequence[str]) -> str | None:
        query = Query(system="", user=prompt, max_tokens=16, form="|".join(allowed))
        try:
            return parse_choice(judge.ask(query), allowed)
        except (UnreadableReplyError, RefusedQueryError):
            return None

    with ThreadPoolExecutor(judge.num_parallel) as pool:
        return list(pool.map(ask, prompts, choices))


def _options(item: Item) -> list[str]:
    match item.get("choices"):
        case [_, *_] as choices:
            return [str(choice) for choice in choices]
    raise DataError(f"a ScienceQA item has choices {item.get('choices')!r}; expected a list")


def _letters(item: Item) -> list[str]:
    return [chr(ord("A") + position) for position in range(len(_options(item)))]


def _format_question(item: Item) -> str:
    """Returns the hint, the question and the lettered options, each on its own line."""
    pairs = zip(_letters(item), _options(item), strict=True)
    hint = [f"Context: {item['hint']}"] if item.get("hint") else []
    options = (f"{letter}. {option}" for letter, option in pairs)
    return "\n".join([*hint, read_field(item, "question"), *options])
