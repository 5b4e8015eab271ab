"""Stage -> an endless stream of batches of procedural samples, the same for the same seed."""

from collections.abc import Iterator

from onevision.batch import TrainingBatch
from onevision.conversation import Conversation, Message, Text, Video
from onevision.data.packing import Row, collate, share_prefix
from onevision.inputs.processor import Processor
from onevision.synth import clips, pairs, scenes, texts
from onevision.synth.sample import Sample, rng_for
from onevision.train.replicas import Replicas
from onevision.train.stages import Stage

FAMILIES = {"scenes": scenes.make, "pairs": pairs.make, "clips": clips.make, "texts": texts.make}
DESCRIBE = {
    "nothing": ("Make up a description.", "Describe something."),
    "picture": ("Describe the picture.", "What does the picture show?"),
    "pictures": ("Describe the pictures.", "What do the pictures show?"),
    "video": ("Describe the video.", "What happens in the video?"),
}
# Share of the samples that learn their whole caption beside their aspects.
CAPTIONED = 0.5
# Rows are drawn this many batches ahead and sorted by length, to pad little.
WINDOW_BATCHES = 8


def batches(
    stage: Stage, processor: Processor, *, seed: int, replicas: Replicas
) -> Iterator[tuple[int, TrainingBatch]]:
    """Give (samples in it, batch) without end; the stage's `num_samples` says when to stop.

    Each of several processes draws its own rows, and its share of a step's tokens.
    """
    index = replicas.rank
    batch_tokens = stage.batch_tokens // replicas.count
    rng = rng_for("train", f"order/{stage.name}/{seed}", replicas.rank)
    while True:
        rows: list[Row] = []
        tokens = 0
        while tokens < WINDOW_BATCHES * batch_tokens:
            rows.append(row_of(stage, processor, seed=seed, index=index))
            tokens += len(rows[-1])
            index += replicas.count
        groups = _by_length(rows, batch_tokens)
        rng.shuffle(groups)
        for group in groups:
            yield len(group), collate(group, processor.config)


def row_of(stage: Stage, processor: Processor, *, seed: int, index: int) -> Row:
    """Return the `index`-th row of a stage: a pure function of stage, seed and index."""
    rng = rng_for("train", f"rows/{stage.name}/{seed}", index)
    family = rng.choices(list(stage.families), weights=list(stage.families.values()))[0]
    sample = FAMILIES[family]("train", rng.randrange(10**9))
    asked = rng.sample(sample.questions, min(stage.max_questions, len(sample.questions)))
    turns = [(q.question, q.answer) for q in asked]
    if not stage.aspects or not sample.aspects or rng.random() < CAPTIONED:
        turns.append((rng.choice(DESCRIBE[_kind(sample)]), sample.caption))
    if stage.aspects:
        turns += [("", aspect) for aspect in sample.aspects]
    talks = [
        Conversation([Message("user", [*sample.media, Text(q)]), Message("assistant", a)])
        for q, a in turns
    ]
    return share_prefix(processor.about_same_media(talks, template=stage.template))


def _kind(sample: Sample) -> str:
    if not sample.media:
        return "nothing"
    if isinstance(sample.media[0], Video):
        return "video"
    return "picture" if len(sample.media) == 1 else "pictures"


def _by_length(rows: list[Row], batch_tokens: int) -> list[list[Row]]:
    """Sort rows by length and cut them into groups of at most `batch_tokens`, padding included."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=len):
        if not groups or (len(groups[-1]) + 1) * len(row) > batch_tokens:
            groups.append([])
        groups[-1].append(row)
    return groups
