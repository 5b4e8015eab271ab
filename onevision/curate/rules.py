"""A reply's text -> the name of the rule that it breaks, or None.

The rules know English and Chinese. They are patterns: what they miss is left to the gates.
"""

import re
from collections.abc import Iterable


def _any(*patterns: str, han: str) -> re.Pattern[str]:
    """Returns a pattern of English words, or of Chinese ones, which have no spaces around them."""
    return re.compile(rf"\b({'|'.join(patterns)})\b|{han}", re.IGNORECASE)


REFUSAL = _any(
    r"I('m| am) (very |really )?(sorry|afraid|unable)",
    r"I (cannot|can not|can't|won't) "
    r"(help|assist|see|view|provide|do|describe|answer|fulfil)",
    r"as an? (AI|language model|assistant)",
    r"I (do not|don't) have (access|the ability)",
    han="抱歉|对不起|作为一?个?(AI|人工智能|语言模型)|无法(提供|查看|看到|回答)",
)
# The writer's own sources, which a picture does not show.
SOURCES = _any(
    r"captions?|annotations?|bounding[ -]box(es)?|box(es)?|coordinates?",
    r"(the|these|your|provided|given) (notes?|descriptions?|sentences?)",
    han=r"标注|边界框|坐标|\[\s*[01]?\.\d+\s*,",
)
UNKNOWN = _any(
    r"(cannot|can not|can't|could not|couldn't|impossible to|not possible to|(hard|difficult) to) "
    r"(be )?(determined?|tell|told|say|said|known?|ascertain(ed)?|identif(y|ied)|seen?)",
    r"(not|\w+n't) (clear|visible|specified|mentioned|stated|given|indicated|provided)",
    r"un(clear|known|certain)|no (information|way to (tell|know))",
    han="无法(确定|判断|得知)|不清楚|未(知|提及|说明)",
)
# Words of guesses, where an answer must be certain.
HEDGES = _any(
    r"perhaps|possibly|probably|presumably|maybe|likely",
    r"(might|may|could) be|(seem|appear)s? to",
    han="也许|可能|大概",
)
# How a finished sentence ends: a mark, and quotes or brackets after it.
END = re.compile(r"[.!?…\u3002\uff01\uff1f][\"'\u201d\u2019)\]\u300d]*$")
HAN = re.compile(r"[\u3400-\u9fff]")
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")


def find_fault(text: str, *, finish_reason: str | None, known: Iterable[str]) -> str | None:
    """Returns the name of the first rule that a reply breaks as a whole.

    `known` are the words of the context: a box is no source if the picture shows one.
    """
    if not text.strip():
        return "empty"
    if finish_reason == "length":
        return "cut off"
    if REFUSAL.search(text):
        return "refusal"
    if END.search(text.strip()) is None:
        return "cut off"
    context = " ".join(known).casefold()
    if any(one[0].casefold() not in context for one in SOURCES.finditer(text)):
        return "mentions its sources"
    return None


def is_indefinite(question: str, answer: str, *, certain: bool) -> bool:
    """Whether a question has no definite answer; `certain` also refuses guesses."""
    if UNKNOWN.search(answer) or UNKNOWN.search(question):
        return True
    return certain and HEDGES.search(answer) is not None


def count_words(text: str) -> int:
    """Returns the number of words, a Chinese character being one."""
    return len(WORD.findall(text))
