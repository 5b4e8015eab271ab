"""A trained arm -> how many questions of each kind it answers correctly, as rows of plain values.

Stages and transfer use the held-out questions of `onevision eval`, sighted and blind. Resolution
asks for letters of given sizes, on sheets of given aspect ratios.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from PIL.Image import Image as PillowImage

from onevision.anyres import plan
from onevision.config import ModelConfig
from onevision.conversation import Image
from onevision.eval.heldout import (
    NUM_QUESTIONS,
    SCENARIOS,
    HeldoutQuestion,
    HeldoutResult,
    run_heldout,
    run_items,
)
from onevision.generate.answer import Model
from onevision.science.micro import RULES
from onevision.science.trials import CLAIMS
from onevision.synth.sample import rng_for
from onevision.synth.worlds.lettering import capitals, signs

LETTERS_PER_CELL = 40
REHEARSAL_QUESTIONS, REHEARSAL_LETTERS = 4, 1

AnswerRow = dict[str, Any]  # Any: a JSON value


@dataclass(frozen=True, kw_only=True)
class HeldoutRow:
    """Counts of one family of questions in one scenario."""

    scenario: str
    family: str
    asked: int
    right: int
    blind: int  # right when the media are grey
    constant: int  # right if the family's most common answer is always given


@dataclass(frozen=True, kw_only=True)
class LetterRow:
    """Counts for sheets that show a letter of one size, at one aspect ratio."""

    family: str  # "read"
    aspect: float
    share: float
    tokens: float  # mean visual tokens per sheet
    asked: int
    right: int


def evaluate_arm(model: Model, arm: str, *, rehearsal: bool = False) -> list[AnswerRow]:
    """Asks an arm the questions of its claims; an arm without claims is asked nothing."""
    if arm in RULES:
        per_cell = REHEARSAL_LETTERS if rehearsal else LETTERS_PER_CELL
        return [asdict(row) for row in _ask_letters(model, per_cell=per_cell)]
    if any(arm in arms for arms in CLAIMS.values()):
        count = REHEARSAL_QUESTIONS if rehearsal else NUM_QUESTIONS
        return [asdict(row) for row in _ask_heldout(model, count=count)]
    return []


def _ask_heldout(model: Model, *, count: int) -> Iterator[HeldoutRow]:
    """Asks the held-out questions of each scenario, sighted and blind."""
    for scenario in SCENARIOS:
        sighted = run_heldout(model, scenario, count=count)
        blind = run_heldout(model, scenario, count=count, blind=True).by_family()
        constant = best_constants(sighted)
        for family, (right, asked) in sorted(sighted.by_family().items()):
            yield HeldoutRow(
                scenario=scenario,
                family=family,
                asked=asked,
                right=right,
                blind=blind[family][0],
                constant=constant[family],
            )


def best_constants(result: HeldoutResult) -> dict[str, int]:
    """Returns by family how often its most common answer is right.

    The answer is chosen with the key in hand, so this is more than a guesser can reach.
    """
    answers: dict[str, Counter[str]] = {}
    for item in result.items:
        answers.setdefault(item.question.family, Counter())[item.question.answer] += 1
    return {family: counts.most_common(1)[0][1] for family, counts in answers.items()}


def _ask_letters(model: Model, *, per_cell: int) -> Iterator[LetterRow]:
    """Asks for `per_cell` held-out letters of each size and aspect ratio."""
    for aspect in signs.ASPECTS:
        for share in signs.SHARES:
            items = [_letter(aspect, share, index) for index in range(per_cell)]
            tokens = _mean_tokens(model.config, items)
            result = run_items(model, items, "capitals")
            for family, (right, asked) in sorted(result.by_family().items()):
                yield LetterRow(
                    family=family,
                    aspect=aspect,
                    share=share,
                    tokens=tokens,
                    asked=asked,
                    right=right,
                )


def _letter(aspect: float, share: float, index: int) -> HeldoutQuestion:
    rng = rng_for("heldout", f"science/capitals/{aspect:g}/{share:.4f}", index)
    capital = capitals.random_capital(rng, aspect=aspect, share=share)
    question = capitals.ask_letter(capital, rng)
    return HeldoutQuestion(media=(Image(capital.picture),), question=question)


def _mean_tokens(config: ModelConfig, items: Sequence[HeldoutQuestion]) -> float:
    counts = []
    for item in items:
        picture = item.media[0].source
        assert isinstance(picture, PillowImage)
        layout = plan(width=picture.width, height=picture.height, rule=config.inputs.image)
        counts.append(layout.num_tokens)
    return sum(counts) / len(counts)
