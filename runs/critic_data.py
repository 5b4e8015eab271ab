"""Writes gradings to learn from, of the form of LLaVA-Critic's, about drawn scenes.

    python runs/critic_data.py OUTPUT [--samples 64] [--first 0]

A rule grades: the right answer is worth 90 points, a wrong one to the same kind of question 10.
Half of the records ask for a score, half for the better of two. Output: pointwise.json and
pairwise.json in OUTPUT, pictures beside them, and llava_critic.yaml, a mixture of both.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from onevision.eval.judging.llava_critic import ask_for_better, ask_for_score
from onevision.synth.sample import Question
from onevision.synth.worlds.shapes import scenes

RIGHT, WRONG = 90, 10
KINDS = ("pointwise", "pairwise")


def wrong_answers(samples: int) -> dict[str, list[str]]:
    """Returns the answers to each kind of question, to choose wrong ones from."""
    found: dict[str, set[str]] = {}
    for number in range(samples):
        for question in scenes.make("train", number).questions:
            found.setdefault(question.family, set()).add(question.answer)
    return {kind: sorted(answers) for kind, answers in found.items()}


def grade(question: Question, wrong: str, *, kind: str, rng: random.Random) -> tuple[str, str]:
    """Returns a prompt of LLaVA-Critic about answers to a question, and the rule's reply."""
    is_first = rng.random() < 0.5
    if kind == "pointwise":
        answer, score = (question.answer, RIGHT) if is_first else (wrong, WRONG)
        said = "right" if is_first else "wrong"
        query = ask_for_score(question.question, answer)
        return query.user, f"Score: {score}\nThe answer is {said}."
    first, second = (question.answer, wrong) if is_first else (wrong, question.answer)
    query = ask_for_better(question.question, first, second)
    return query.user, f"The {'first' if is_first else 'second'} response is better."


def records(first: int, samples: int, folder: Path, *, kind: str) -> Iterator[dict[str, object]]:
    """Yields a record for each scene with a known wrong answer, and writes its picture."""
    others = wrong_answers(200)
    for number in range(first, first + samples):
        rng = random.Random(f"{kind}/{number}")
        sample = scenes.make("train", number)
        choices = [
            (question, [one for one in others[question.family] if one != question.answer])
            for question in sample.questions
            if question.family in others
        ]
        choices = [(question, wrong) for question, wrong in choices if wrong]
        if not choices:
            continue
        question, wrongs = rng.choice(choices)
        wrong = rng.choice(wrongs)
        said, reply = grade(question, wrong, kind=kind, rng=rng)
        sample.media[0].source.save(folder / f"{number}.png")
        talk = [{"from": "human", "value": f"<image>\n{said}"}, {"from": "gpt", "value": reply}]
        yield {"id": f"{kind}-{number}", "image": f"{number}.png", "conversations": talk}


def main() -> None:
    """Writes both kinds of records and their mixture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--samples", type=int, default=64, help="scenes of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    told = parser.parse_args()
    told.output.mkdir(parents=True, exist_ok=True)
    lines = ["datasets:"]
    for kind in KINDS:
        found = list(records(told.first, told.samples, told.output, kind=kind))
        (told.output / f"{kind}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        lines += [f"  - json_path: {kind}.json", "    sampling_strategy: all"]
    (told.output / "llava_critic.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
