"""Everything a run was told, as values that can be written, read back and compared."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from onevision.accelerate.packed import can_multiply
from onevision.config import ModelConfig
from onevision.errors import ConfigError
from onevision.files import write_text
from onevision.train.options import RunOptions
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.stage import Stage
from onevision.values import apply_settings, flatten, from_plain, to_plain

# Raised when settings written before would be read otherwise.
FORMAT_VERSION = 1
# What decides a run's outcome, of its options; the others may change when it goes on.
DECISIVE_OPTIONS = (
    *("seed", "precision", "loss_mean"),
    *("lora_rank", "lora_alpha", "lora_dropout", "lora_parts", "lora_base"),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a run was told, so that it can be told again."""

    stage: Stage
    # The architecture that the curriculum leads to.
    target: ModelConfig
    options: RunOptions
    # How to learn from pairs which answer is better; None learns answers.
    preference: PreferenceConfig | None = None
    # Directories that the run begins with, and its tokenizer.
    starts: tuple[str, ...] = ()
    tokenizer: str | None = None


def run_options(settings: Sequence[str]) -> RunOptions:
    """Return the options of a run with "key=value" texts applied. Raises ConfigError.

    Where nothing is said of the precision and the processor only emulates bf16, it is fp32.
    """
    options = apply_settings(RunOptions(), settings)
    is_given = any(setting.partition("=")[0].strip() == "precision" for setting in settings)
    if is_given or options.device != "cpu" or can_multiply(torch.bfloat16):
        return options
    return replace(options, precision="fp32")


def resolved(settings: Settings) -> dict[str, Any]:
    """Return every value of a run as JSON knows it."""
    plain = {"format_version": FORMAT_VERSION} | to_plain(settings)
    plain["target"] = json.loads(settings.target.to_json())
    return plain


def write_settings(settings: Settings, path: Path) -> None:
    """Write a run's settings as JSON, whole or not at all. Raises OSError."""
    write_text(path, json.dumps(resolved(settings), indent=2) + "\n")


def read_settings(path: Path) -> Settings:
    """Read what `write_settings` wrote, strictly. Raises ConfigError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); write it again with the run") from error
    if not isinstance(values, dict) or values.pop("format_version", None) != FORMAT_VERSION:
        raise ConfigError(
            f"{path}: not settings of format_version {FORMAT_VERSION}; start the run anew"
        )
    if "target" in values:
        values["target"] = ModelConfig.from_dict(values["target"])
    try:
        return from_plain(Settings, values, where=str(path))
    except ConfigError as error:
        raise ConfigError(f"{error}; start the run anew") from error


def decisive_options(settings: Settings) -> dict[str, Any]:
    """Return the options that decide a run's outcome, as JSON knows them."""
    options = resolved(settings)["options"]
    return {key: options[key] for key in DECISIVE_OPTIONS}


def difference(old: Settings, new: Settings) -> list[str]:
    """Say what differs of what decides the outcome: "learning_rate: 1e-05 -> 2e-05".

    Where its files lie, on how many devices it runs, how often it saves and the like is left out.
    """
    before, after = dict(_decisive(old)), dict(_decisive(new))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {_told(before.get(key, 'absent'))} -> {_told(after.get(key, 'absent'))}"
        for key in keys
        if before.get(key, "absent") != after.get(key, "absent")
    ]


def _decisive(settings: Settings) -> Iterator[tuple[str, object]]:
    """Give what decides the outcome, by dotted name; the stage's fields go without prefix."""
    plain = resolved(settings)
    yield from flatten(plain["stage"])
    yield from flatten({"target": plain["target"]})
    yield from flatten({"preference": plain["preference"]})
    yield from flatten(decisive_options(settings))


def _told(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "nothing"
    return "none" if value is None else str(value)
