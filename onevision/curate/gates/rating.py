"""A judge's rating, from 1 to 5, asked twice to say how stable it is; replies are remembered."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean

from onevision.conversation import Image
from onevision.curate.gates.gate import GateItem
from onevision.curate.prompt_files import PROMPTS, PromptFile, read_prompt
from onevision.endpoint import RefusedQueryError
from onevision.errors import MediaError
from onevision.eval.judging.client import Query
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.parse import UnreadableReplyError, parse_labelled_number
from onevision.inputs.media import open_image

RATING = PROMPTS / "rating.yaml"
LOWEST, HIGHEST = 1, 5
NUM_ROUNDS = 2


class RatingGate:
    """Marks records that a judge rates below a minimum, by the mean of two rounds."""

    name = "rating"

    def __init__(self, least: float, judge: Judge) -> None:
        self.least, self.judge = least, judge
        self._prompt = read_prompt(RATING)
        # Of each record that was rated: by how much the rounds differ.
        self.differences: list[float] = []

    def check(self, items: Sequence[GateItem]) -> list[str | None]:
        """Returns the rating that is too low, or why there is none. Raises JudgeError."""
        with ThreadPoolExecutor(self.judge.num_parallel) as pool:
            return list(pool.map(self._check, items))

    @property
    def stability(self) -> str:
        """How far the rounds differ, for people."""
        if not self.differences:
            return "no record was rated"
        same = sum(difference == 0 for difference in self.differences)
        return (
            f"two ratings of the same record differ by {fmean(self.differences):.2f} on average "
            f"and are equal for {same:,} of {len(self.differences):,}"
        )

    def _check(self, item: GateItem) -> str | None:
        try:
            query = to_query(item, self._prompt)
            ratings = [self._rate(query, number) for number in range(NUM_ROUNDS)]
        except (UnreadableReplyError, RefusedQueryError, MediaError) as error:
            return f"the judge does not rate it: {error}"
        self.differences.append(max(ratings) - min(ratings))
        mean = fmean(ratings)
        return None if mean >= self.least else f"rated {mean:g}; expected {self.least:g} or more"

    def _rate(self, query: Query, number: int) -> float:
        reply = self.judge.ask(query, round_number=number)
        return parse_labelled_number(reply, label="Rating", low=LOWEST, high=HIGHEST)


def to_query(item: GateItem, prompt: PromptFile) -> Query:
    """Returns what the judge is asked about a record. Raises MediaError."""
    pairs = zip(item.questions, item.answers, strict=False)
    said = "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in pairs)
    pictures = [medium for medium in item.conversation.media if isinstance(medium, Image)]
    return Query(
        system=prompt.content.system,
        user=said,
        images=tuple(_encode(picture) for picture in pictures),
        temperature=prompt.content.temperature,
        max_tokens=prompt.content.max_tokens,
    )


def _encode(picture: Image) -> bytes:
    file = io.BytesIO()
    open_image(picture.source).save(file, "PNG")
    return file.getvalue()
