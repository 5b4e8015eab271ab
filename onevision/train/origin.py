"""A written checkpoint -> the stage that made it, which travels with it in training.json."""

import json
from pathlib import Path

from onevision.errors import ConfigError

ORIGIN = "training.json"


def describe_origin(stage: str) -> str:
    """Returns the text of training.json."""
    return json.dumps({"stage": stage}) + "\n"


def read_origin(checkpoint: Path) -> str | None:
    """Returns the stage that made a checkpoint; None if it does not say. Raises ConfigError."""
    path = checkpoint / ORIGIN
    if not path.is_file():
        return None
    try:
        stage = json.loads(path.read_text(encoding="utf-8"))["stage"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); remove it, and no order of stages is checked"
        ) from error
    return str(stage)
