"""Records of trials -> the results in docs/science.md, and its pictures.

Only the text between two marks is replaced: the rest of the page is written by hand.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from onevision import plots
from onevision.errors import InputError
from onevision.eval.heldout import SCENARIOS
from onevision.files import write_bytes, write_text
from onevision.science.claims import FAILS, HOLDS, OPEN, Estimate, Results, where
from onevision.science.markdown import markdown_table, show_points, show_share, write_between
from onevision.science.micro import RULES
from onevision.science.plots import PICTURES
from onevision.science.study import TrialRecord
from onevision.science.trials import CLAIMS
from onevision.synth.worlds.lettering.capitals import CAPITALS
from onevision.synth.worlds.lettering.signs import ASPECTS, SHARES

PAGE, FOLDER, RAW = "science.md", "science", "trials.json"
BEGIN, END = "<!-- results: written by `onevision science --report` -->", "<!-- end of results -->"
NEW_PAGE = f"# Claims of the paper, in miniature\n\n{BEGIN}\n{END}\n"
NOT_RUN = "**Not run yet.** No trial of this claim is finished in two seeds or more."
REHEARSED = "**A rehearsal on a handful of samples: its numbers say nothing.**"
MIN_SEEDS = 2


def write_records(records: Sequence[TrialRecord], docs: Path, *, folder: str = FOLDER) -> None:
    """Writes records to DOCS/FOLDER/trials.json, one line per trial."""
    lines = ",\n".join(json.dumps(asdict(record)) for record in records)
    write_text(docs / folder / RAW, f"[\n{lines}\n]\n")


def read_records(docs: Path, *, folder: str = FOLDER) -> list[TrialRecord]:
    """Returns the records in DOCS/FOLDER/trials.json, if it exists. Raises InputError."""
    path = docs / folder / RAW
    if not path.is_file():
        return []
    try:
        return [TrialRecord(**values) for values in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: not records of trials ({error}); write them again from the finished runs"
        ) from error


def replace_records(before: Sequence[TrialRecord], now: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns records with newer ones in place of those of the same trials."""
    newer = {(record.arm, record.seed) for record in now}
    return [record for record in before if (record.arm, record.seed) not in newer] + list(now)


def write_page(docs: Path, *, warn: Callable[[str], object] = str) -> Path:
    """Writes results and pictures from the records in `docs`; returns the page.

    Without matplotlib the pictures stay as they are, and `warn` is called once. Raises InputError
    for a page without its two marks.
    """
    page, records = docs / PAGE, read_records(docs)
    write_between(page, begin=BEGIN, end=END, text="\n\n".join(_sections(records)), empty=NEW_PAGE)
    results = Results(records)
    pictures = [picture for claim in CLAIMS if _is_run(results, claim)
                for picture in PICTURES[claim].items()]  # fmt: skip
    if pictures and not plots.is_installed():
        warn(f"{page} is written, its pictures are not: {plots.MISSING}")
        return page
    for name, make in pictures:
        write_bytes(docs / FOLDER / name, make(results))
    return page


def _is_run(results: Results, claim: str) -> bool:
    return len(results.seeds(*CLAIMS[claim])) >= MIN_SEEDS


def _sections(records: Sequence[TrialRecord]) -> Iterator[str]:
    results = Results(records)
    if any(record.rehearsal for record in records):
        yield REHEARSED
    for claim, (title, section) in SECTIONS.items():
        yield f"### {title}"
        if _is_run(results, claim):
            yield from section(results)
        else:
            yield NOT_RUN
    if records:
        hours = sum(r.train_seconds + r.exam_seconds for r in records) / 3600
        yield f"All {len(records)} trials took {hours:.1f} hours of one thread."


def _stages(results: Results) -> Iterator[str]:
    arms = CLAIMS["stages"]
    lifts = {s: results.difference("onevision", "continued", where(scenario=s)) for s in SCENARIOS}
    yield (
        "**At the same operations, the OneVision stage lifts several pictures: "
        f"{lifts['multi_image'].verdict}. It lifts video: {lifts['video'].verdict}. Single images "
        f"change by {show_points(lifts['single_image'])} points: {_cost(lifts['single_image'])}.**"
    )
    rows = []
    for scenario in SCENARIOS:
        chosen = where(scenario=scenario)
        gain = lifts[scenario]
        rows.append(
            [
                _words(scenario),
                *(show_share(results.accuracy(arm, chosen)) for arm in arms),
                show_points(results.difference("onevision", "single_image", chosen)),
                show_points(gain),
                gain.verdict if scenario != "single_image" else _cost(gain),
            ]
        )
    yield markdown_table(
        ["", *arms, "onevision - single_image", "onevision - continued", "the lift"], rows
    )
    yield _costs(results, arms)
    yield "![Accuracy by stage and scenario](science/stages.png)"


def _transfer(results: Results) -> Iterator[str]:
    arm = "single_image"
    skills = [skill for skill in results.skills(arm) if skill.scenario != "single_image"]
    for verdict, heading in ((HOLDS, "Transfer"), (FAILS, "Do not"), (OPEN, "Cannot tell")):
        names = [f"{_words(s.scenario)}: {s.family}" for s in skills if s.verdict == verdict]
        yield f"**{heading}:** {', '.join(names) or 'none'}."
    rows = [
        [
            f"**{_words(scenario)}**",
            "",
            *(show_share(results.accuracy(arm, where(scenario=scenario), column))
              for column in ("right", "blind", "constant")),
            show_points(results.gain(arm, where(scenario=scenario))),
            results.gain(arm, where(scenario=scenario)).verdict,
        ]
        for scenario in SCENARIOS
        if scenario != "single_image"
    ]  # fmt: skip
    rows += [
        [
            f"{_words(skill.scenario)}: {skill.family}",
            str(skill.asked),
            show_share(skill.sighted),
            show_share(skill.blind),
            show_share(skill.constant),
            show_points(skill.gain),
            skill.verdict,
        ]
        for skill in sorted(skills, key=lambda skill: -skill.gain.value)
    ]
    heads = ["", "asked", "sighted", "blind", "constant", "above both", "transfer"]
    yield markdown_table(heads, rows)
    yield "![Skills of the single-image stage on several pictures and video](science/transfer.png)"


def _resolution(results: Results) -> Iterator[str]:
    rules = tuple(RULES)
    read = where(family="read")
    best = "higher_9"
    gaps = {rule: results.difference(best, rule, read) for rule in rules if rule != best}
    verdicts = "; ".join(f"{rule}: {gap.verdict}" for rule, gap in gaps.items())
    yield (
        f"**At the same operations, `{best}` reads more than {verdicts}.** One letter in "
        f"{len(CAPITALS)} is right by chance ({100 / len(CAPITALS):.1f} %)."
    )
    rows = []
    for rule in rules:
        gap = gaps.get(rule)
        rows.append(
            [
                rule,
                f"{results.tokens(rule, read):.0f}",
                *(
                    show_share(results.accuracy(rule, where(family="read", share=s)))
                    for s in SHARES
                ),
                show_share(results.accuracy(rule, read)),
                "" if gap is None else show_points(gap),
                "" if gap is None else gap.verdict,
            ]
        )
    sizes = [f"letters 1/{1 / s:.0f}" for s in SHARES]
    heads = ["", "tokens", *sizes, "all", f"{best} - it", f"{best} is better"]
    yield markdown_table(heads, rows)
    yield markdown_table(
        ["read, by aspect", *(f"{a:g} : 1" for a in ASPECTS)],
        [
            [r, *(show_share(results.accuracy(r, where(family="read", aspect=a))) for a in ASPECTS)]
            for r in rules
        ],
    )
    yield _costs(results, rules)
    for name, by in (("sizes", "letter size"), ("aspects", "aspect ratio")):
        yield f"![Letters read over visual tokens, by {by}](science/{name}.png)"


def _costs(results: Results, arms: Sequence[str]) -> str:
    rows = [
        [
            arm,
            f"{results.average(arm, 'samples'):,.0f}",
            f"{results.average(arm, 'tokens') / 1e6:.2f}M",
            f"{results.average(arm, 'operations') / 1e12:.2f}T",
            f"{results.average(arm, 'train_seconds') / 60:.1f}",
        ]
        for arm in arms
    ]
    return markdown_table(["trained on", "samples", "tokens", "operations", "minutes"], rows)


def _cost(gain: Estimate) -> str:
    """Says whether the scenario that is no longer trained alone gains or loses."""
    words = {HOLDS: "it gains", FAILS: "it loses", OPEN: OPEN}
    return words[gain.verdict]


def _words(scenario: str) -> str:
    return scenario.replace("_", " ")


SECTIONS: dict[str, tuple[str, Callable[[Results], Iterator[str]]]] = {
    "stages": ("1. The OneVision stage", _stages),
    "transfer": ("2. Task transfer", _transfer),
    "resolution": ("3. Higher AnyRes", _resolution),
}
