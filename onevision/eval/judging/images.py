"""Free answers about images -> queries to the judge -> scores: LLaVA-Bench to MathVerse."""

from onevision.errors import DataError
from onevision.eval.judging.benchmark import Dialogue, JudgedCase, ask_until_readable
from onevision.eval.judging.client import Query
from onevision.eval.judging.parse import (
    parse_choice,
    parse_dict_number,
    parse_labelled_number,
    parse_number,
    parse_two_grades,
)
from onevision.eval.judging.prompts import encode_images, fill_prompt, judge_prompts, read_field
from onevision.eval.scoring.scorer import Item

# What readable replies look like.
TWO_GRADES = "(10|[1-9]) (10|[1-9])"
_MMVET_TEMPERATURES = (0.0, 0.5, 1.0, 1.5)


def judge_against_caption(case: JudgedCase) -> Dialogue:
    """LLaVA-Bench: graded side by side with a reference answer; the judge reads the caption."""
    ((item, answer),) = case
    rules = judge_prompts()["pairwise"]["rules"]
    assert isinstance(rules, dict)
    category = read_field(item, "category")
    if category not in rules:
        raise DataError(f"category is {category!r}; expected {', '.join(rules)}")
    reply = yield Query(
        system=fill_prompt("pairwise", "system"),
        user=fill_prompt(
            "pairwise",
            "user",
            context=fill_prompt("pairwise", "context", caption=_describe_image(item)),
            question=read_field(item, "question"),
            first=read_field(item, "gpt_answer", "answer"),
            second=answer,
            rule=rules[category],
        ),
        temperature=0.2,
        form=TWO_GRADES,
    )
    return dict(zip(("reference", "answer"), parse_two_grades(reply), strict=True))


def _describe_image(item: Item) -> str:
    """Returns the image in words: its captions, and the boxes of its objects if the row has them.

    `caption` is a text or a list; `boxes` are texts, or objects with `category` and `bbox`, whose
    numbers from 0 to 1 are left, top, right and bottom.
    """
    captions = item.get("caption")
    lines = [*map(str, captions)] if isinstance(captions, list) else [read_field(item, "caption")]
    boxes = item.get("boxes")
    if boxes is not None and not isinstance(boxes, list):
        raise DataError(f"boxes is {str(boxes)[:40]!r}; expected a list")
    for box in boxes or ():
        match box:
            case str():
                lines.append(box)
            case {"category": category, "bbox": [_, _, _, _] as bbox}:
                lines.append(f"{category}: [{', '.join(f'{float(x):.3f}' for x in bbox)}]")
            case _:
                raise DataError(f"a box is {str(box)[:60]!r}; expected category and bbox")
    return "\n".join(lines)


def judge_against_image(case: JudgedCase) -> Dialogue:
    """LLaVA-Wilder: graded side by side with a reference answer; the judge sees the image."""
    ((item, answer),) = case
    reply = yield Query(
        system=fill_prompt("pairwise", "system"),
        user=fill_prompt(
            "pairwise",
            "user",
            context=fill_prompt("wilder", "context"),
            question=read_field(item, "Question", "question"),
            first=read_field(item, "Answer", "answer"),
            second=answer,
            rule=fill_prompt("wilder", "rule"),
        ),
        images=encode_images(item),
        form=TWO_GRADES,
    )
    return dict(zip(("reference", "answer"), parse_two_grades(reply), strict=True))


def judge_mmvet(case: JudgedCase) -> Dialogue:
    """MM-Vet: a grade from 0.0 to 1.0; an unreadable grade is requested again, less greedily."""
    ((item, answer),) = case
    query = Query(
        system=fill_prompt("mmvet", "system"),
        user=fill_about("mmvet", "user", item=item, answer=" ".join(answer.split())),
        max_tokens=16,
        form=r"0\.\d|1\.0",
    )
    grade = yield from ask_until_readable(
        query,
        lambda reply: parse_number(reply, low=0, high=1),
        temperatures=_MMVET_TEMPERATURES,
    )
    return {"score": grade}


def judge_imagedc(case: JudgedCase) -> Dialogue:
    """ImageDC: a caption, graded from 0 to 100 by a judge that sees the image."""
    ((item, answer),) = case
    user = fill_prompt("imagedc", "user", prediction=answer)
    images = encode_images(item)
    system, form = fill_prompt("imagedc", "system"), r"Final Score: (100|\d{1,2})"
    reply = yield Query(system=system, user=user, images=images, form=form)
    return {"score": parse_labelled_number(reply, label="Final Score", low=0, high=100)}


def judge_vibe_eval(case: JudgedCase) -> Dialogue:
    """Vibe-Eval: a rating from 1 to 5 by a reference answer."""
    ((item, answer),) = case
    user = fill_about("vibe_eval", "user", item=item, answer=answer)
    system = fill_prompt("vibe_eval", "system")
    reply = yield Query(system=system, user=user, temperature=0.4, form="Rating: [1-5]")
    return {"rating": parse_labelled_number(reply, label="Rating", low=1, high=5)}


def judge_live_bench(case: JudgedCase) -> Dialogue:
    """MM-LiveBench: rated 0 to 10 by each question's criteria; the judge sees the images."""
    ((item, answer),) = case
    criteria = read_field(item, "criteria")
    user = fill_about("live_bench", "user", item=item, answer=answer, criteria=criteria)
    images = encode_images(item)
    reply = yield Query(system=fill_prompt("live_bench", "system"), user=user, images=images)
    return {"rating": parse_dict_number(reply, "Rating", high=10)}


def judge_correctness(case: JudgedCase) -> Dialogue:
    """MathVerse today, and own data: whether the response arrives at the expected answer."""
    ((item, answer),) = case
    user = fill_about("binary", "user", item=item, answer=answer)
    system = fill_prompt("binary", "system")
    reply = yield Query(system=system, user=user, max_tokens=8, form="[01]")
    return {"right": float(parse_choice(reply, ("0", "1")))}


def judge_mathverse_in_two_steps(case: JudgedCase) -> Dialogue:
    """MathVerse when the paper was written: extracts an answer from the end, then compares it."""
    ((item, answer),) = case
    end = " ".join(answer.split(" ")[-30:])
    extraction = fill_prompt("two_steps", "extract", response=end)
    extracted = yield Query(system="", user=extraction, max_tokens=64)
    user = fill_prompt(
        "two_steps",
        "agree",
        prediction=extracted.strip(),
        question=read_field(item, "question"),
        truth=read_field(item, "answer"),
    )
    reply = yield Query(system="", user=user, max_tokens=8, form="[01]")
    return {"right": float(parse_choice(reply, ("0", "1")))}


def fill_about(*path: str, item: Item, answer: str, **values: object) -> str:
    """Returns the prompt at `path` with the item's question, its true answer and the prediction."""
    question = read_field(item, "question_for_eval", "question", "prompt")
    truth = read_field(item, "answer", "reference")
    return fill_prompt(*path, question=question, truth=truth, prediction=answer, **values)
