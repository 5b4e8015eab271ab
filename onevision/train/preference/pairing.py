"""Scored answers -> pairs for DPO: the best and the worst answer to each prompt.

pairs.jsonl      records as `data.py` reads them, with both scores
left_out.jsonl   {"id": "9", "why": "all scores are equal"}: every prompt without a pair
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from onevision.errors import DataError
from onevision.files import Line, write_lines
from onevision.plural import counted
from onevision.train.preference.data import Prompt

PAIRS, LEFT_OUT = "pairs.jsonl", "left_out.jsonl"
NOT_ASKED = "the prompt cannot be asked"
ALL_ALIKE = "fewer than two distinct whole answers"
NOT_SCORED = "fewer than two answers with a score"
ALL_EQUAL = "all scores are equal"


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """The pairs of a round's answers, and counts."""

    pairs: tuple[Line, ...]
    left_out: tuple[Line, ...]
    num_answers: int
    num_cut_off: int  # answers that were longer than allowed
    num_unscored: int  # candidates without a readable score from the critic
    mean_score: float | None  # over all candidates with a score

    @property
    def reasons(self) -> dict[str, int]:
        """The number of prompts left out for each reason."""
        return dict(Counter(line["why"] for line in self.left_out))

    def figures(self) -> Line:
        """Returns the counts as JSON values."""
        return {
            "prompts": len(self.pairs) + len(self.left_out),
            "pairs": len(self.pairs),
            "left_out": self.reasons,
            "answers": self.num_answers,
            "cut_off": self.num_cut_off,
            "unscored": self.num_unscored,
            "mean_score": self.mean_score,
        }

    def __str__(self) -> str:
        reasons = "".join(f"; {number} without: {why}" for why, number in self.reasons.items())
        score = "none" if self.mean_score is None else f"{self.mean_score:.1f}"
        count = len(self.pairs) + len(self.left_out)
        return (
            f"{counted(len(self.pairs), 'pair')} from {counted(count, 'prompt')}{reasons}; "
            f"{counted(self.num_answers, 'answer')}, "
            f"{self.num_cut_off} cut off, {self.num_unscored} without a score; mean score {score}"
        )


def pair_up(
    prompts: Sequence[Prompt], lines: Sequence[Line], scores: Mapping[int, Line]
) -> Pairing:
    """Pairs the best with the worst answer to each prompt; of equals, the first sampled."""
    pairs: list[Line] = []
    left_out: list[Line] = []
    for line in lines:
        prompt, scored = prompts[line["row"]], scores[line["row"]]["candidates"]
        found = _best_and_worst(line, scored)
        if isinstance(found, str):
            left_out.append({"id": prompt.id, "why": found, "problem": line["problem"]})
        else:
            pairs.append({"id": prompt.id, **prompt.fields, **found})
    answers = [answer for line in lines for answer in line["answers"]]
    candidates = [one for line in lines for one in scores[line["row"]]["candidates"]]
    known = [one["score"] for one in candidates if one["score"] is not None]
    return Pairing(
        pairs=tuple(pairs),
        left_out=tuple(left_out),
        num_answers=len(answers),
        num_cut_off=sum(answer["finish_reason"] == "length" for answer in answers),
        num_unscored=len(candidates) - len(known),
        mean_score=fmean(known) if known else None,
    )


def write_pairs(pairing: Pairing, directory: Path) -> Path:
    """Writes pairs.jsonl and left_out.jsonl, each whole or not at all; returns the first.

    Raises DataError if there is no pair, after writing why.
    """
    try:
        write_lines(directory / LEFT_OUT, pairing.left_out)
        write_lines(directory / PAIRS, pairing.pairs)
    except OSError as error:
        raise DataError(f"{directory}: cannot be written ({error.strerror}); make room") from error
    if not pairing.pairs:
        raise DataError(
            f"{directory}: {pairing}; without a pair there is nothing to learn: see {LEFT_OUT} "
            "and scores.jsonl there, and sample more or warmer answers (--set num_answers, "
            "temperature, max_new_tokens) into another --output"
        )
    return directory / PAIRS


def _best_and_worst(line: Line, candidates: Sequence[Line]) -> Line | str:
    """Returns the pair's own fields, or why there is no pair."""
    if line["problem"] is not None:
        return NOT_ASKED
    if len(candidates) < 2:
        return ALL_ALIKE
    scored = [one for one in candidates if one["score"] is not None]
    if len(scored) < 2:
        return NOT_SCORED
    best = max(scored, key=lambda one: one["score"])
    worst = min(scored, key=lambda one: one["score"])
    if best["score"] == worst["score"]:
        return ALL_EQUAL
    return {
        "chosen": best["text"],
        "rejected": worst["text"],
        "chosen_score": best["score"],
        "rejected_score": worst["score"],
    }
