"""Answer + ten people's answers -> soft accuracy: VQAv2, TextVQA, OK-VQA, A-OKVQA.

An answer scores min(1, the number of people who gave it / 3), averaged over leaving out each person
in turn. Antol et al., "VQA", 2015; the processing is that of its server.
"""

from collections.abc import Mapping, Sequence

from onevision.errors import DataError
from onevision.eval.scoring.choices import extract_mcq_letter
from onevision.eval.scoring.fields import index, texts
from onevision.eval.scoring.numbers import DIGITS_OF
from onevision.eval.scoring.punctuation import COMMAS_BETWEEN_DIGITS, drop_punctuation
from onevision.eval.scoring.scorer import Item, Score, Scorer, averages, mean

_ARTICLES = ("a", "an", "the")
_NUMBERS = {"none": "0", **DIGITS_OF}

# Spellings of these that lack one apostrophe are corrected. FIDELITY: the list is the server's
# (no "i'm", no "it's"), and it writes "somebody'd" without its apostrophe.
_CONTRACTED = """
'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am
might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've
should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're
you've
"""
_CONTRACTIONS = {
    word[:i] + word[i + 1 :]: word
    for word in _CONTRACTED.split()
    for i, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}


def process_answer(answer: str) -> str:
    """Process an answer as the challenge's server does: "The two dogs!" becomes "2 dogs"."""
    answer = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return drop_articles(_drop_marks(_on_one_line(answer)))


def drop_articles(answer: str) -> str:
    """Lower-case, write number words as digits, drop articles, correct contractions."""
    words = (_NUMBERS.get(word, word) for word in answer.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def compute_soft_accuracy(answer: str, references: Sequence[str]) -> float:
    """Returns min(1, matches among the others / 3), averaged over leaving out each reference."""
    matches = references.count(answer)
    others = [matches - (reference == answer) for reference in references]
    return sum(min(1.0, count / 3) for count in others) / len(references)


def _on_one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def _drop_marks(answer: str) -> str:
    return drop_punctuation(answer, digit_comma=COMMAS_BETWEEN_DIGITS)


def _process_partly(answer: str) -> str:
    return drop_articles(_drop_marks(answer))


def _score_vqa(answer: str, item: Item) -> Score:
    references = [process_answer(reference) for reference in texts(item, "answers")]
    answer = process_answer(answer)
    return {"score": compute_soft_accuracy(answer, references), "answer": answer}


def _score_vqav2(answer: str, item: Item) -> Score:
    people = _people(item)
    answer = process_answer(answer)
    if len({person["answer"] for person in people}) > 1:  # FIDELITY: only if people disagree
        people = [{**person, "answer": _process_partly(str(person["answer"]))} for person in people]
        answer = _process_partly(answer)
    return {"score": _among_others(answer, people), "answer": answer}


def _score_vqav2_now(answer: str, item: Item) -> Score:
    people = [
        {**person, "answer": _process_partly(str(person["answer"]))} for person in _people(item)
    ]
    answer = _process_partly(_on_one_line(answer))
    return {"score": _among_others(answer, people), "answer": answer}


def _people(item: Item) -> list[dict[str, object]]:
    entries = item.get("answers")
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(entry, Mapping) and "answer" in entry for entry in entries)
    ):
        raise DataError('field "answers" is not a list of {"answer": ...}, as VQAv2 stores it')
    return [{**entry, "answer": _on_one_line(str(entry["answer"]))} for entry in entries]


def _among_others(answer: str, people: Sequence[Mapping[str, object]]) -> float:
    # FIDELITY: "the others" are the entries that differ in any field, so that without ids, equal
    # answers are left out together.
    accuracies = [
        min(1.0, sum(other["answer"] == answer for other in people if other != person) / 3)
        for person in people
    ]
    return sum(accuracies) / len(accuracies)


def _score_direct(answer: str, item: Item) -> Score:
    matches = texts(item, "direct_answers").count(answer)
    skipped = bool(item["difficult_direct_answer"]) if "difficult_direct_answer" in item else False
    return {"score": min(1.0, matches / 3), "skipped": skipped}


def _aggregate_direct(scores: Sequence[Score]) -> dict[str, float]:
    return {"direct_answer": 100 * mean([score for score in scores if not score["skipped"]])}


def _score_choice(answer: str, item: Item) -> Score:
    choices = texts(item, "choices")
    letters = "ABCDEFGHIJ"[: len(choices)]
    if answer in choices:
        chosen = answer
    else:  # the official evaluator expects a choice; our prompt asks for its letter
        letter = extract_mcq_letter(answer, letters)
        chosen = choices[letters.index(letter)] if letter else ""
    right = chosen == choices[index(item, "correct_choice_idx", below=len(choices))]
    return {"score": float(right), "predicted": chosen}


VQA = Scorer(score=_score_vqa, aggregate=averages("exact_match"))
VQAV2 = Scorer(score=_score_vqav2, aggregate=averages("exact_match"))
VQAV2_NOW = Scorer(score=_score_vqav2_now, aggregate=averages("exact_match"))
A_OKVQA_DIRECT = Scorer(score=_score_direct, aggregate=_aggregate_direct, unit="percent")
A_OKVQA_CHOICE = Scorer(
    score=_score_choice, aggregate=averages("multiple_choice", scale=100), unit="percent"
)
