"""Texts -> a byte-level BPE tokenizer of Qwen2's kind, as the text of a tokenizer.json.

The corpus of `tiny` is the text of its procedural worlds and the prose and code of this package, so
that other words, too, become tokens of more than a letter.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.normalizers import NFC

from onevision.conversation import Text
from onevision.data.mixture import Mixture
from onevision.data.records import to_conversation
from onevision.inputs.tokenizer import END_OF_TEXT, IM_END, IM_START
from onevision.synth.kit.scene import NUMBERS, WORDS
from onevision.synth.worlds.clips import clips
from onevision.synth.worlds.sets import pairs
from onevision.synth.worlds.shapes import scenes

CONTROL_TOKENS = (END_OF_TEXT, IM_START, IM_END, "<image>", "<video>")
# How Qwen2 splits text before merging: contractions, words, single digits, punctuation, spaces.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> str:
    """Learns merges from `texts` until there are `vocab_size` entries or nothing repeats."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True) for token in CONTROL_TOKENS],
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str(pretty=True)


def corpus(num_samples: int) -> Iterator[str]:
    """Yields the whole corpus: the worlds, then this package's own files."""
    yield from world_texts(num_samples)
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        yield path.read_text(encoding="utf-8")


def mixture_texts(mixture: Mixture) -> Iterator[str]:
    """Yields what is asked and answered in every chosen record. Raises DataError."""
    for dataset in mixture.datasets:
        for row in dataset.rows:
            conversation = to_conversation(dataset.source.read(int(row)))
            for message in conversation.messages:
                parts = message.content
                if isinstance(parts, str):
                    yield parts
                else:
                    yield from (part.text for part in parts if isinstance(part, Text))


def world_texts(count: int) -> Iterator[str]:
    """Yields the text of `count` training samples of each of the procedural families."""
    for text in ("system user assistant\n", "You are a helpful assistant.", *NUMBERS, *WORDS):
        yield from (text, f" {text}") * 10
    for index in range(count):
        for family in (scenes, pairs, clips):
            sample = family.make("train", index)
            yield sample.caption
            for question in sample.questions:
                yield f"{question.question}\n{question.answer}\n {question.answer}"
