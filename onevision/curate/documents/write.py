"""Sources and a count -> a data set of photographed pages, each with one question.

A page is a function of its number and the seed: pages that are there are kept, so a run that was
stopped continues, and gives the bytes of one that was not.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml

from onevision.curate.claim import PAGES, RECORDS, claim
from onevision.curate.documents.page import Page, make_page
from onevision.curate.documents.scene import photograph
from onevision.curate.documents.sources import Language, PageSources
from onevision.curate.task import Turn
from onevision.errors import ConfigError
from onevision.files import Line, atomic_path, encode_line, write_json
from onevision.locks import lock_directory

PICTURES_FOLDER = "pages"
JPEG_QUALITY = 90
# Of forms, the share that is asked for a value; of the rest, that asked for a line.
VALUE_SHARE, LINE_SHARE = 0.7, 0.3
QUESTIONS = Path(__file__).parent / "questions.yaml"


@cache
def questions() -> Mapping[str, Mapping[Language, Sequence[str]]]:
    """Returns the wordings of the questions, by what is asked for and by language."""
    return yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))


def write_documents(
    output: Path,
    sources: PageSources,
    *,
    count: int,
    seed: int,
    on_progress: Callable[[int], object] = int,
) -> Path:
    """Writes the pages and records.json; returns the path of the records.

    Raises ConfigError if the directory has pages of other sources or other records, InputError for
    a font and MediaError for a picture that cannot be used, OSError.
    """
    with lock_directory(output, holder="job"):
        claim(output, job="documents")
        settings = {"seed": seed, "sources": sources.fingerprint}
        _agree_on_sources(output / PAGES, settings)
        (output / PICTURES_FOLDER).mkdir(exist_ok=True)
        with atomic_path(output / RECORDS) as partial, partial.open("wb") as file:
            for number in range(count):
                line = encode_line(_write_page(output, sources, number, seed)).rstrip(b"\n")
                file.write((b",\n" if number else b"[\n") + line)
                on_progress(number + 1)
            file.write(b"\n]\n")
    return output / RECORDS


def ask_about(page: Page, rng: random.Random) -> Turn:
    """Returns a question about a page and its answer: a value, a line, or everything."""
    if page.values and rng.random() < VALUE_SHARE:
        name, value = rng.choice(page.values)
        question = rng.choice(questions()["value"][page.language]).format(name=name)
        return Turn(question=question, answer=value)
    if rng.random() < LINE_SHARE:
        number = rng.randrange(len(page.lines))
        question = rng.choice(questions()["line"][page.language]).format(n=number + 1)
        return Turn(question=question, answer=page.lines[number])
    question = rng.choice(questions()["all"][page.language])
    return Turn(question=question, answer="\n".join(page.lines))


def _agree_on_sources(path: Path, settings: Line) -> None:
    """Refuses to mix pages of different sources. Raises ConfigError."""
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
        raise ConfigError(
            f"{path.parent}: its pages were drawn from other texts, fonts or pictures, or with "
            "another seed; give another --output"
        )
    write_json(path, settings)


def _write_page(output: Path, sources: PageSources, number: int, seed: int) -> Line:
    rng = random.Random(f"onevision/documents/{seed}/{number}")
    page = make_page(rng, sources)
    turn = ask_about(page, rng)
    name = f"{PICTURES_FOLDER}/{seed}-{number:07d}.jpg"
    if not (output / name).is_file():
        picture = photograph(page.picture, rng, sources)
        with atomic_path(output / name) as partial:
            picture.save(partial, "JPEG", quality=JPEG_QUALITY)
    return {
        "id": f"documents-{seed}-{number}",
        "image": name,
        "conversations": [
            {"from": "human", "value": f"<image>\n{turn.question}"},
            {"from": "gpt", "value": turn.answer},
        ],
    }
