"""Every error a caller may want to catch.

    OneVisionError
    ├── InputError               what was asked cannot be done as asked
    │   ├── MediaError           an image or a video cannot be used
    │   ├── ContextLengthError   the prompt does not fit the model's positions
    │   └── CapacityError        more memory is needed than the engine may use
    ├── ModelError
    │   ├── ModelNotFoundError   no such model
    │   ├── ConfigError          settings that contradict themselves
    │   └── CheckpointError      files that are missing, broken or of an unknown layout
    ├── DataError                a record that cannot be used
    ├── EngineError              a request that was taken on and cannot be answered
    │   ├── QueueFullError       too many are waiting; ask again later
    │   └── DeadlineError        its time is up
    ├── TrainingError            a run that cannot go on
    └── JudgeError               a judge that cannot be asked

A message says what was found, what was expected and what to do. It fits one line.
"""

from typing import Literal

# What is wrong with an image or a video.
MediaFault = Literal[
    "source", "empty", "format", "codec", "no_stream", "mode", "damaged", "crashed",
    "too_large", "too_long", "too_slow",
]  # fmt: skip


class OneVisionError(Exception):
    """The root of all errors raised on purpose by this package."""


class InputError(OneVisionError):
    """A conversation or an option that cannot be served as given."""


class MediaError(InputError):
    """An image or a video that cannot be read, or is larger than allowed.

    `fault` is for programs; `place` is which of the conversation's media it is, where known.
    """

    def __init__(
        self, message: str, *, fault: MediaFault = "damaged", place: int | None = None
    ) -> None:
        super().__init__(message)
        self.fault: MediaFault = fault
        self.place = place


class ContextLengthError(InputError):
    """A prompt that needs more positions than the model has."""


class CapacityError(InputError):
    """A request that needs more memory than the engine may use for all together."""


class EngineError(OneVisionError):
    """A request that failed for no fault of its own; others go on."""


class QueueFullError(EngineError):
    """A request that was not taken on, since too many wait already."""


class DeadlineError(EngineError):
    """A request whose time was up before its answer was complete."""


class ModelError(OneVisionError):
    """A model that cannot be built or loaded."""


class ModelNotFoundError(ModelError):
    """A model name that is neither bundled, nor a directory, nor a hub id."""


class ConfigError(ModelError):
    """A configuration that contradicts itself."""


class CheckpointError(ModelError):
    """Checkpoint files that are missing, damaged, or of an unknown layout."""


class DataError(OneVisionError):
    """A record that cannot be used; the message names what is known of source, row and field."""


class TrainingError(OneVisionError):
    """A training run that cannot go on; what it has saved is untouched."""


class JudgeError(OneVisionError):
    """A judging model that cannot be reached or will not serve; what it has said is kept."""
