"""Which kinds of instruction data help? The ablation of LLaVA's table 4, in miniature.

    runs/ablation/
        train-0/, heldout/      procedural pictures, their captions, and data/, an instruct job
        NAME-0.json             the records of an arm
        NAME/seed-0/            the knowledge stage over them, and scores.json
        results.json            each arm's score by kind: mean and deviation over seeds

Each seed has pictures of its own: few samples fill few packs, whose order hardly matters. A rule
writes the data (rule_writer.py), so they are exact. An answer's score is 100 x ROUGE-L
against what the rule would say, in place of LLaVA's judge: it rewards the facts and the form.
"""

import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

from PIL.Image import Image as PillowImage

from onevision.conversation import Conversation, Image, Message, Text
from onevision.curate.budget import Limits
from onevision.curate.captions import open_captions
from onevision.curate.claim import RECORDS
from onevision.curate.instruct import KINDS, InstructJob, Kind
from onevision.curate.job import run_job
from onevision.curate.learning.learn import learn
from onevision.curate.learning.rule_writer import RuleWriter
from onevision.errors import ConfigError
from onevision.eval.scoring.rouge import rouge_l
from onevision.files import Line, write_json, write_lines, write_text
from onevision.generate.answer import Model, load
from onevision.locks import lock_directory
from onevision.synth.captions import CAPTIONS, caption_record, captioned
from onevision.synth.sample import Split
from onevision.synth.worlds.shapes import scenes

# The shares of each kind that an arm learns from, and LLaVA-Bench (COCO) with them: 2304.08485,
# table 4, column "all".
ARMS: Mapping[str, Mapping[Kind, float]] = {
    "none": {},
    "conversation": {"conversation": 1},
    "conversation-5-10": {"conversation": 1, "detail": 0.05, "reasoning": 0.1},
    "detail-reasoning": {"detail": 1, "reasoning": 1},
    "all": {"conversation": 1, "detail": 1, "reasoning": 1},
}
PUBLISHED = {"none": 21.5, "conversation": 73.8, "conversation-5-10": 80.5,
             "detail-reasoning": 81.9, "all": 85.1}  # fmt: skip
MAX_NEW_TOKENS = 160
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Arms, seeds and sizes."""

    output: Path
    start: Path  # a checkpoint
    num_pictures: int = 64
    num_heldout: int = 24
    num_seeds: int = 3
    settings: tuple[str, ...] = ()
    on_score: Callable[[str], object] = str

    def __post_init__(self) -> None:
        for name in ("num_pictures", "num_heldout", "num_seeds"):
            if vars(self)[name] < 1:
                raise ConfigError(f"{name} is {vars(self)[name]}; expected at least 1")

    def run(self) -> Line | None:
        """Runs what is left of it; returns the results, None if a run was stopped.

        Raises as `run_stage` does.
        """
        with lock_directory(self.output, holder="job"):
            heldout = write_data(self.output / "heldout", "heldout", count=self.num_heldout)
            scores: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
            scores["none"].append(self._score(self.start, self.output / "none", heldout))
            for seed, name in itertools.product(range(self.num_seeds), ARMS):
                if not ARMS[name]:
                    continue
                place = self.output / name / f"seed-{seed}"
                settings = (*self.settings, f"seed={seed}")
                mixture = self._mix(name, seed)
                checkpoint = learn(self.start, mixture, place / "run", settings=settings)
                if checkpoint is None:
                    return None
                scores[name].append(self._score(checkpoint, place, heldout))
                write_json(self.output / "results.json", summarize(scores))
            return summarize(scores)

    def _mix(self, name: str, seed: int) -> Path:
        """Writes an arm's records of a seed's own pictures: of each kind the first share."""
        begin, count = seed * self.num_pictures, self.num_pictures
        records = write_data(self.output / f"train-{seed}", "train", count=count, begin=begin)
        chosen = [
            record
            for kind, share in ARMS[name].items()
            for record in records[kind][: max(1, round(share * len(records[kind])))]
        ]
        random.Random(0).shuffle(chosen)
        path = self.output / f"{name}-{seed}.json"  # pictures' paths start here
        write_text(path, json.dumps(chosen, indent=1))
        return path

    def _score(
        self, checkpoint: Path, place: Path, heldout: Mapping[Kind, list[Line]]
    ) -> dict[str, float]:
        path = place / "scores.json"
        if not path.is_file():
            model = load(checkpoint)
            found = {kind: score(model, records, self.output) for kind, records in heldout.items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, found | {"mean": fmean(found.values())})
        scores = json.loads(path.read_text(encoding="utf-8"))
        told = ", ".join(f"{kind} {value:.1f}" for kind, value in scores.items())
        self.on_score(f"{place.relative_to(self.output)}: {told}")
        return scores


def write_data(
    directory: Path, split: Split, *, count: int, begin: int = 0
) -> dict[Kind, list[Line]]:
    """Writes pictures of scenes and instruction data of each kind; returns the records.

    The first picture is number `begin` of its split. Paths start at the parent of `directory`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found: list[Line] = []
    samples = captioned(scenes.make, split)
    for number, sample in enumerate(itertools.islice(samples, begin, begin + count)):
        name = f"{directory.name}/{number:05d}.png"
        picture = sample.media[0].source
        assert isinstance(picture, PillowImage), "scenes are drawn"
        picture.save(directory.parent / name)
        found.append(caption_record(sample, name))
    write_lines(directory / CAPTIONS, found)
    source = open_captions(directory / CAPTIONS, instances=None, root=directory.parent)
    writer = RuleWriter()
    job = InstructJob(source=source, kinds=KINDS, writer=writer.identity, seed=0)
    run_job(job, writer, directory / "data", limits=Limits())
    records = json.loads((directory / "data" / RECORDS).read_text(encoding="utf-8"))
    return {
        kind: [one for one in records if str(one["id"]).startswith(f"{kind}-")] for kind in KINDS
    }


def score(model: Model, records: Sequence[Line], root: Path) -> float:
    """Returns 100 x the mean ROUGE-L of the answers to the records' first questions."""
    total = 0.0
    for begin in range(0, len(records), BATCH):
        batch = records[begin : begin + BATCH]
        replies = model.ask_all(
            [_question(record, root) for record in batch], max_new_tokens=MAX_NEW_TOKENS
        )
        for record, reply in zip(batch, replies, strict=True):
            total += rouge_l(reply.text, record["conversations"][1]["value"])
    return 100 * total / max(1, len(records))


def summarize(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> Line:
    """Returns each arm's mean and deviation over seeds, by kind; and the order of arms."""
    arms = {
        name: {
            kind: {"mean": fmean(values), "deviation": pstdev(values), "seeds": len(values)}
            for kind in (*KINDS, "mean")
            for values in [[one[kind] for one in found]]
        }
        for name, found in scores.items()
        if found
    }
    order = sorted(arms, key=lambda name: -arms[name]["mean"]["mean"])
    published = sorted(arms, key=lambda name: -PUBLISHED[name])
    return {"arms": arms, "order": order, "published_order": published}


def _question(record: Line, root: Path) -> Conversation:
    text = str(record["conversations"][0]["value"]).removeprefix("<image>\n")
    return Conversation([Message("user", [Image(root / str(record["image"])), Text(text)])])
