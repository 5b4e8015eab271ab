"""The exceptions that this package raises on purpose.

    OneVisionError
    ├── InputError               an invalid conversation or option
    │   ├── MediaError           an image or a video that cannot be used
    │   ├── ContextLengthError   a prompt longer than the model's context
    │   └── CapacityError        a request that needs more memory than the engine may use
    ├── ModelError
    │   ├── ModelNotFoundError   an unknown model name
    │   ├── ConfigError          contradictory settings
    │   └── CheckpointError      files that are missing, damaged or of an unknown layout
    ├── DataError                a record that cannot be used
    │   └── ShardError           a shard that cannot be had
    ├── EngineError              a valid request that failed
    │   ├── QueueFullError       too many requests are waiting; retry later
    │   ├── DecodersBusyError    no media decoder became free in time; retry later
    │   └── DeadlineError        the request timed out
    ├── SandboxError             media decoders that cannot be confined as demanded
    ├── TrainingError            a run that cannot continue
    └── EndpointError            a model behind an address that cannot be reached or used
        └── JudgeError           a judge of that kind

Messages say on one line what was found, what was expected and what to do.
"""

from typing import Literal

# The causes of a MediaError.
MediaFault = Literal[
    "source", "empty", "format", "codec", "no_stream", "mode", "damaged", "crashed",
    "too_large", "too_long", "too_slow",
]  # fmt: skip


class OneVisionError(Exception):
    """The base class of all exceptions that this package raises on purpose."""


class InputError(OneVisionError):
    """A conversation or an option that is invalid as given."""


class MediaError(InputError):
    """An image or a video that cannot be read or exceeds a limit.

    `fault` is a machine-readable cause; `place` is the index of the medium in the conversation.
    """

    def __init__(
        self, message: str, *, fault: MediaFault = "damaged", place: int | None = None
    ) -> None:
        super().__init__(message)
        self.fault: MediaFault = fault
        self.place = place


class ContextLengthError(InputError):
    """A prompt that is longer than the model's context."""


class CapacityError(InputError):
    """A request that needs more memory than the engine may use in total."""


class EngineError(OneVisionError):
    """A valid request that failed; other requests continue."""


class QueueFullError(EngineError):
    """A request that was rejected because the queue is full."""


class DecodersBusyError(EngineError):
    """A request whose media found no free decoder in time, or none that could be started."""


class DeadlineError(EngineError):
    """A request that timed out before its answer was complete."""


class ModelError(OneVisionError):
    """A model that cannot be built or loaded."""


class ModelNotFoundError(ModelError):
    """A model name that is neither bundled, nor a directory, nor a hub id."""


class ConfigError(ModelError):
    """A configuration that contradicts itself."""


class CheckpointError(ModelError):
    """Checkpoint files that are missing, damaged, or of an unknown layout."""


class DataError(OneVisionError):
    """A record that cannot be used; the message names source, row and field as far as known."""


class ShardError(DataError):
    """A shard that cannot be had: trouble of a store or a disk, no fault of its records."""


class SandboxError(OneVisionError):
    """Media decoders that this machine cannot confine as demanded."""


class TrainingError(OneVisionError):
    """A training run that cannot continue; its snapshots are untouched."""


# Why a model behind an address did not answer: nothing is there, the key or the path is refused,
# too many queries, no reply in time, a reply without text, or trouble of its own.
EndpointFault = Literal["address", "access", "rate", "timeout", "reply", "server"]


class EndpointError(OneVisionError):
    """A model behind an address that cannot be reached or refuses; `fault` says why."""

    def __init__(self, message: str, *, fault: EndpointFault = "address") -> None:
        super().__init__(message)
        self.fault: EndpointFault = fault


class JudgeError(EndpointError):
    """A judge model that cannot be reached or refuses; replies received so far are kept."""
