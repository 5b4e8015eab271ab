"""A trained arm -> how many questions of each kind it answers, as rows of plain values.

Stages and transfer ask the held-out questions of `onevision eval`, with media and with grey ones.
Resolution asks of letters whose size and aspect are set, cell by cell.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from PIL.Image import Image as PillowImage

from onevision.anyres import plan
from onevision.config import ModelConfig
from onevision.conversation import Image
from onevision.eval.heldout import NUM_QUESTIONS, SCENARIOS, Item
from onevision.eval.runner import Result, run_heldout, run_items
from onevision.generate.answer import Model
from onevision.science.micro import RULES
from onevision.science.trials import CLAIMS
from onevision.synth.sample import rng_for
from onevision.synth.worlds.shapes import capitals, signs

LETTERS_A_CELL = 40
REHEARSED_QUESTIONS, REHEARSED_LETTERS = 4, 1

Row = dict[str, Any]  # Any: a JSON value


@dataclass(frozen=True, kw_only=True)
class HeldoutRow:
    """Questions of one family of a scenario."""

    scenario: str
    family: str
    asked: int
    right: int
    blind: int  # right about grey media
    constant: int  # right by always giving the answer that is right most often


@dataclass(frozen=True, kw_only=True)
class LetterRow:
    """Questions about sheets with a letter of one size and aspect."""

    family: str  # "read"
    aspect: float
    share: float
    tokens: float  # visual ones of a picture, on average
    asked: int
    right: int


def examine(model: Model, arm: str, *, rehearsal: bool = False) -> list[Row]:
    """Ask an arm what its claims need; nothing of the others."""
    if arm in RULES:
        per_cell = REHEARSED_LETTERS if rehearsal else LETTERS_A_CELL
        return [asdict(row) for row in ask_letters(model, per_cell=per_cell)]
    if any(arm in arms for arms in CLAIMS.values()):
        count = REHEARSED_QUESTIONS if rehearsal else NUM_QUESTIONS
        return [asdict(row) for row in ask_heldout(model, count=count)]
    return []


def ask_heldout(model: Model, *, count: int) -> Iterator[HeldoutRow]:
    """Ask the held-out questions of every scenario, sighted and blind."""
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


def best_constants(result: Result) -> dict[str, int]:
    """Return for each family how often its most common answer is the right one.

    It is chosen with the answers known, so it is more than who guesses can reach.
    """
    answers: dict[str, Counter[str]] = {}
    for item in result.items:
        answers.setdefault(item.question.family, Counter())[item.question.answer] += 1
    return {family: counts.most_common(1)[0][1] for family, counts in answers.items()}


def ask_letters(model: Model, *, per_cell: int) -> Iterator[LetterRow]:
    """Ask to read `per_cell` held-out letters of every size and aspect."""
    for aspect in signs.ASPECTS:
        for share in signs.SHARES:
            items = list(_items(aspect, share, per_cell))
            tokens = _tokens(model.config, items)
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


def _items(aspect: float, share: float, per_cell: int) -> Iterator[Item]:
    for index in range(per_cell):
        rng = rng_for("heldout", f"science/capitals/{aspect:g}/{share:.4f}", index)
        sheet = capitals.draw(rng, aspect=aspect, share=share)
        yield Item(media=(Image(sheet.picture),), question=capitals.question(sheet, rng))


def _tokens(config: ModelConfig, items: list[Item]) -> float:
    """Return how many visual tokens a picture takes on average."""
    counts = []
    for item in items:
        picture = item.media[0].source
        assert isinstance(picture, PillowImage)
        layout = plan(width=picture.width, height=picture.height, rule=config.inputs.image)
        counts.append(layout.num_tokens)
    return sum(counts) / len(counts)
