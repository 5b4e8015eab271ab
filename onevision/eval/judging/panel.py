"""Items + answers + judges -> mean verdicts: repeated rounds of a judge, or several judges.

Every judge judges every answer once per round. A case's scores are the means over the passes whose
reply is readable; how far the passes differ is their standard deviation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from onevision.errors import InputError
from onevision.eval.judging.benchmark import Scores
from onevision.eval.judging.judge import Judge, JudgeUsage, sum_usage
from onevision.eval.judging.run import Verdict, aggregate_verdicts, judge_answers
from onevision.eval.scoring.scorer import Item


@dataclass(frozen=True, kw_only=True)
class JudgePass:
    """One judge's figure for all answers, in one round."""

    judge: str
    round_number: int
    # None if no reply is readable.
    headline: float | None
    num_unreadable: int


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Who judges, and how often."""

    judges: tuple[Judge, ...]
    num_rounds: int = 1

    def __post_init__(self) -> None:
        if not self.judges or self.num_rounds < 1:
            raise InputError(
                f"{len(self.judges)} judges in {self.num_rounds} rounds; expected one or more"
            )

    @property
    def name(self) -> str:
        """The judges' names."""
        return " + ".join(judge.name for judge in self.judges)

    @property
    def usage(self) -> JudgeUsage:
        """What all judges have been asked so far."""
        return sum_usage([judge.usage for judge in self.judges])


@dataclass(frozen=True, kw_only=True)
class PanelVerdicts:
    """What the passes of a panel amount to."""

    # Per item; a case is unreadable if it is in every pass.
    verdicts: list[Verdict]
    passes: tuple[JudgePass, ...]
    # Over the cases that are readable in all passes: the share whose scores differ.
    share_changed: float

    @property
    def std(self) -> float | None:
        """The sample standard deviation of the passes' headlines; None for fewer than two."""
        headlines = [one.headline for one in self.passes if one.headline is not None]
        return stdev(headlines) if len(headlines) > 1 else None


def judge_by_panel(
    judge_id: str, items: Sequence[Item], answers: Sequence[str], panel: Panel
) -> PanelVerdicts:
    """Judges the same answers in every pass. Raises what `judge_answers` raises."""
    passes: list[JudgePass] = []
    found: list[list[Verdict]] = []
    for judge in panel.judges:
        for number in range(panel.num_rounds):
            verdicts = judge_answers(judge_id, items, answers, judge, round_number=number)
            total = aggregate_verdicts(judge_id, verdicts)
            found.append(verdicts)
            passes.append(
                JudgePass(
                    judge=judge.name,
                    round_number=number,
                    headline=total.metrics.get(total.headline),
                    num_unreadable=total.num_unreadable,
                )
            )
    cases = list(zip(*found, strict=True))
    readable = [case for case in cases if all(one["scores"] for one in case)]
    changed = sum(any(one["scores"] != case[0]["scores"] for one in case) for case in readable)
    return PanelVerdicts(
        verdicts=[_merge(case) for case in cases],
        passes=tuple(passes),
        share_changed=changed / len(readable) if readable else 0.0,
    )


def _merge(case: Sequence[Verdict]) -> Verdict:
    first, *others = case
    if not others:
        return first
    readable: list[Scores] = [one["scores"] for one in case if one["scores"]]
    scores = (
        {name: fmean(one[name] for one in readable) for name in readable[0]} if readable else {}
    )
    return {**first, "scores": scores, "unreadable": None if readable else first["unreadable"]}
