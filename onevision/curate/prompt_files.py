"""A YAML file -> a prompt: a system message, examples, sampling, phrasings, and the file's hash.

The files in prompts/ are the defaults. A directory of files of the same names stands in their
place; a file that is missing there is an error, so that nothing is mixed by accident.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from onevision.conversation import Conversation, Message, Part
from onevision.curate.task import WriterSampling
from onevision.errors import DataError
from onevision.values import from_plain

PROMPTS = Path(__file__).parent / "prompts"


@dataclass(frozen=True, kw_only=True)
class PromptExample:
    """A context, and the reply that a good writer gives to it."""

    context: str
    reply: str


@dataclass(frozen=True, kw_only=True)
class PromptContent:
    """What a prompt file holds."""

    system: str
    temperature: float
    max_tokens: int
    examples: tuple[PromptExample, ...] = ()
    # Wordings of a request, of which one is drawn for each task.
    phrasings: tuple[str, ...] = ()
    # An answer with fewer words is refused.
    min_words: int = 1


@dataclass(frozen=True, kw_only=True)
class PromptFile:
    """A prompt, and a hash of its file."""

    content: PromptContent
    sha256: str

    @property
    def sampling(self) -> WriterSampling:
        """How replies to it are sampled."""
        return WriterSampling(
            temperature=self.content.temperature, max_tokens=self.content.max_tokens
        )

    def conversation(self, query: str | Iterable[Part]) -> Conversation:
        """Returns the messages: system, each example as a turn, the query."""
        messages = [Message("system", self.content.system)] if self.content.system else []
        for example in self.content.examples:
            messages.append(Message("user", example.context))
            messages.append(Message("assistant", example.reply))
        asked = query if isinstance(query, str) else tuple(query)
        return Conversation([*messages, Message("user", asked)])

    def phrasing(self, key: str) -> str:
        """Returns a wording, the same for the same key."""
        digest = hashlib.sha256(key.encode()).digest()
        return self.content.phrasings[int.from_bytes(digest[:8], "big") % self._num_phrasings]

    @property
    def _num_phrasings(self) -> int:
        assert self.content.phrasings, "the prompt has phrasings"
        return len(self.content.phrasings)


def read_prompt(path: Path) -> PromptFile:
    """Reads a prompt file. Raises DataError."""
    try:
        data = path.read_bytes()
        values = yaml.safe_load(data.decode())
    except OSError as error:
        raise DataError(
            f"{path}: the prompt cannot be read ({error.strerror}); check --prompts"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: the prompt is not YAML in UTF-8 ({reason}); fix it") from error
    content = from_plain(PromptContent, values, where=str(path), complete=False, error=DataError)
    return PromptFile(content=content, sha256=hashlib.sha256(data).hexdigest())
