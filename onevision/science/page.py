"""Records -> the part of docs/science.md that holds results, and its pictures.

The page keeps what people wrote; what lies between the two marks is written anew each time.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from onevision.errors import InputError
from onevision.eval.heldout import SCENARIOS
from onevision.files import write_text
from onevision.science.claims import FAILS, HOLDS, OPEN, Claims, Estimate, of
from onevision.science.micro import RULES
from onevision.science.plots import Panel, PlotRow, Series, draw_panels, draw_rows
from onevision.science.study import Record
from onevision.science.trials import CLAIMS
from onevision.synth.worlds.shapes.capitals import CAPITALS
from onevision.synth.worlds.shapes.signs import ASPECTS, SHARES

PAGE, FOLDER, RAW = "science.md", "science", "trials.json"
BEGIN, END = "<!-- results: written by `onevision science --report` -->", "<!-- end of results -->"
NEW_PAGE = f"# Claims of the paper, in miniature\n\n{BEGIN}\n{END}\n"
NOT_RUN = "**Not run yet.** No trial of this claim is finished in two seeds or more."
REHEARSED = "**A rehearsal on a handful of samples: its numbers say nothing.**"
MIN_SEEDS = 2


def write_records(records: Sequence[Record], docs: Path) -> None:
    """Write the raw numbers, a line a trial, to DOCS/science/trials.json."""
    lines = ",\n".join(json.dumps(asdict(record)) for record in records)
    folder = docs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RAW, f"[\n{lines}\n]\n")


def read_records(docs: Path) -> list[Record]:
    """Read what `write_records` wrote; nothing where it never did. Raises InputError."""
    path = docs / FOLDER / RAW
    if not path.is_file():
        return []
    try:
        return [Record(**values) for values in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: not records of trials ({error}); write it again: onevision science"
        ) from error


def renewed(before: Sequence[Record], now: Sequence[Record]) -> list[Record]:
    """Return records with newer ones of the same trials in their place: claims may run apart."""
    newer = {(record.arm, record.seed) for record in now}
    return [record for record in before if (record.arm, record.seed) not in newer] + list(now)


def write_page(docs: Path) -> Path:
    """Write results and pictures from the raw numbers in `docs`; returns the page."""
    page, records = docs / PAGE, read_records(docs)
    docs.mkdir(parents=True, exist_ok=True)
    text = page.read_text(encoding="utf-8") if page.is_file() else NEW_PAGE
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise InputError(
            f"{page}: expected the lines {BEGIN!r} and {END!r} once each, around its results; "
            "put them in"
        )
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    results = "\n\n".join(_results(records, docs / FOLDER))
    write_text(page, f"{before}{BEGIN}\n\n{results}\n\n{END}{after}")
    return page


def _results(records: Sequence[Record], folder: Path) -> Iterator[str]:
    claims = Claims(records)
    if any(record.rehearsal for record in records):
        yield REHEARSED
    for name, (title, told) in SECTIONS.items():
        yield f"### {title}"
        if len(claims.seeds(*CLAIMS[name])) < MIN_SEEDS:
            yield NOT_RUN
        else:
            yield from told(claims, folder)
    if records:
        hours = sum(r.train_seconds + r.exam_seconds for r in records) / 3600
        yield f"All {len(records)} trials took {hours:.1f} hours of one thread."


def _stages(claims: Claims, folder: Path) -> Iterator[str]:
    arms = CLAIMS["stages"]
    lifts = {s: claims.difference("onevision", "continued", of(scenario=s)) for s in SCENARIOS}
    yield (
        "**At the same operations, the OneVision stage lifts several pictures: "
        f"{lifts['multi_image'].verdict}. It lifts video: {lifts['video'].verdict}. Single images "
        f"change by {_points(lifts['single_image'])} points: {_cost(lifts['single_image'])}.**"
    )
    rows = []
    for scenario in SCENARIOS:
        chosen = of(scenario=scenario)
        gain = lifts[scenario]
        rows.append(
            [
                _spelt(scenario),
                *(_share(claims.accuracy(arm, chosen)) for arm in arms),
                _points(claims.difference("onevision", "single_image", chosen)),
                _points(gain),
                gain.verdict if scenario != "single_image" else _cost(gain),
            ]
        )
    yield _table(["", *arms, "onevision - single_image", "onevision - continued", "the lift"], rows)
    yield _costs(claims, arms)
    draw_rows(
        "Held-out questions answered rightly, by stage",
        _series(arms),
        [
            PlotRow(
                title=_spelt(scenario),
                estimates=tuple(claims.accuracy(arm, of(scenario=scenario)) for arm in arms),
            )
            for scenario in SCENARIOS
        ],
        folder / "stages.png",
    )
    yield "![Accuracy by stage and scenario](science/stages.png)"


def _transfer(claims: Claims, folder: Path) -> Iterator[str]:
    arm = "single_image"
    skills = [skill for skill in claims.skills(arm) if skill.scenario != "single_image"]
    for verdict, said in ((HOLDS, "Transfer"), (FAILS, "Do not"), (OPEN, "Cannot tell")):
        names = [f"{_spelt(s.scenario)}: {s.family}" for s in skills if s.verdict == verdict]
        yield f"**{said}:** {', '.join(names) or 'none'}."
    rows = [
        [
            f"**{_spelt(scenario)}**",
            "",
            *(_share(claims.accuracy(arm, of(scenario=scenario), column))
              for column in ("right", "blind", "constant")),
            _points(claims.gain(arm, of(scenario=scenario))),
            claims.gain(arm, of(scenario=scenario)).verdict,
        ]
        for scenario in SCENARIOS
        if scenario != "single_image"
    ]  # fmt: skip
    rows += [
        [
            f"{_spelt(skill.scenario)}: {skill.family}",
            str(skill.asked),
            _share(skill.sighted),
            _share(skill.blind),
            _share(skill.constant),
            _points(skill.gain),
            skill.verdict,
        ]
        for skill in sorted(skills, key=lambda skill: -skill.gain.value)
    ]
    heads = ["", "asked", "sighted", "blind", "constant", "above both", "transfer"]
    yield _table(heads, rows)
    draw_rows(
        "Zero-shot: never trained on several pictures or video",
        _series(("sighted", "blind", "constant")),
        [
            PlotRow(
                title=f"{skill.scenario.split('_')[0]}: {skill.family}",
                estimates=(skill.sighted, skill.blind, skill.constant),
            )
            for skill in skills
        ],
        folder / "transfer.png",
    )
    yield "![Skills of the single-image stage on several pictures and video](science/transfer.png)"


def _resolution(claims: Claims, folder: Path) -> Iterator[str]:
    rules = tuple(RULES)
    read = of(family="read")
    best = "higher_9"
    gaps = {rule: claims.difference(best, rule, read) for rule in rules if rule != best}
    said = "; ".join(f"{rule}: {gap.verdict}" for rule, gap in gaps.items())
    yield (
        f"**At the same operations, `{best}` reads more than {said}.** One letter in "
        f"{len(CAPITALS)} is right by chance ({100 / len(CAPITALS):.1f} %)."
    )
    rows = []
    for rule in rules:
        gap = gaps.get(rule)
        rows.append(
            [
                rule,
                f"{claims.tokens(rule, read):.0f}",
                *(_share(claims.accuracy(rule, of(family="read", share=s))) for s in SHARES),
                _share(claims.accuracy(rule, read)),
                "" if gap is None else _points(gap),
                "" if gap is None else gap.verdict,
            ]
        )
    sizes = [f"letters 1/{1 / s:.0f}" for s in SHARES]
    heads = ["", "tokens", *sizes, "all", f"{best} - it", f"{best} is better"]
    yield _table(heads, rows)
    yield _table(
        ["read, by aspect", *(f"{a:g} : 1" for a in ASPECTS)],
        [
            [r, *(_share(claims.accuracy(r, of(family="read", aspect=a))) for a in ASPECTS)]
            for r in rules
        ],
    )
    yield _costs(claims, rules)
    by_size = [(f"letters 1/{1 / s:.0f} of the side", of(family="read", share=s)) for s in SHARES]
    by_aspect = [(f"aspect {a:g} : 1", of(family="read", aspect=a)) for a in ASPECTS]
    for name, said, panels in (
        ("sizes", "letter size", by_size),
        ("aspects", "aspect ratio", by_aspect),
    ):
        draw_panels(
            f"Letters read, by {said}; the same operations for every rule; dark line: chance",
            _series(rules),
            [
                Panel(
                    title=title,
                    points=tuple(
                        (claims.tokens(r, chosen), claims.accuracy(r, chosen)) for r in rules
                    ),
                )
                for title, chosen in panels
            ],
            folder / f"{name}.png",
            chance=1 / len(CAPITALS),
        )
        yield f"![Letters read over visual tokens, by {said}](science/{name}.png)"


def _costs(claims: Claims, arms: Sequence[str]) -> str:
    rows = [
        [
            arm,
            f"{claims.average(arm, 'samples'):,.0f}",
            f"{claims.average(arm, 'tokens') / 1e6:.2f}M",
            f"{claims.average(arm, 'operations') / 1e12:.2f}T",
            f"{claims.average(arm, 'train_seconds') / 60:.1f}",
        ]
        for arm in arms
    ]
    return _table(["trained on", "samples", "tokens", "operations", "minutes"], rows)


def _cost(gain: Estimate) -> str:
    """Say what the scenario pays that is no longer trained alone."""
    words = {HOLDS: "it gains", FAILS: "it loses", OPEN: OPEN}
    return words[gain.verdict]


def _series(names: Sequence[str]) -> tuple[Series, ...]:
    return tuple(Series(name=name, style=f"s{number}") for number, name in enumerate(names))


def _spelt(scenario: str) -> str:
    return scenario.replace("_", " ")


def _share(value: Estimate) -> str:
    return f"{100 * value.value:.1f} ± {100 * (value.high - value.value):.1f}"


def _points(value: Estimate) -> str:
    return f"{100 * value.value:+.1f} ± {100 * (value.high - value.value):.1f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


SECTIONS: dict[str, tuple[str, Callable[[Claims, Path], Iterator[str]]]] = {
    "stages": ("1. The OneVision stage", _stages),
    "transfer": ("2. Task transfer", _transfer),
    "resolution": ("3. Higher AnyRes", _resolution),
}
