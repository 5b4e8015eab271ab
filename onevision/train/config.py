"""The configuration of a run -> its settings.json and back, and what differs between two."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from onevision.accelerate.processor import can_multiply
from onevision.config import ModelConfig
from onevision.errors import ConfigError
from onevision.files import write_text
from onevision.train.options import RunOptions
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.reinforce.config import ReinforceConfig
from onevision.train.saving.place import Place
from onevision.train.stage import Stage
from onevision.values import apply_settings, flatten, from_plain, to_plain

# Raised if older files would be read differently.
FORMAT_VERSION = 1
# The options that decide a run's outcome; the others may change when it resumes.
DECISIVE_OPTIONS = (
    *("seed", "precision", "loss_mean"),
    *("held_out", "held_out_steps", "keep_best", "early_stop"),
    *("lora_rank", "lora_alpha", "lora_dropout", "lora_parts", "lora_layers"),
    *("lora_rslora", "lora_dora", "lora_base", "lora_targets"),
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All that a run needs to know, so that it can be repeated."""

    stage: Stage
    # The architecture at the end of the curriculum.
    target: ModelConfig
    options: RunOptions
    # How to learn which of two answers is better; None for every other objective.
    preference: PreferenceConfig | None = None
    # How to learn from rewards; None for every other objective.
    reinforce: ReinforceConfig | None = None
    # Checkpoints that the run begins with, and its tokenizer.
    starts: tuple[str, ...] = ()
    tokenizer: str | None = None


def make_run_options(settings: Sequence[str]) -> RunOptions:
    """Returns the options of a run with "key=value" texts applied. Raises ConfigError.

    If they do not set the device, it is the GPU if there is one for
    every process. If they do not set the precision
    and the CPU only emulates bf16, it is fp32.
    """
    options = apply_settings(RunOptions(), settings)
    given = {setting.partition("=")[0].strip() for setting in settings}
    if "device" not in given and _has_gpus():
        options = replace(options, device="cuda")
    if "precision" in given or options.device != "cpu" or can_multiply(torch.bfloat16):
        return options
    return replace(options, precision="fp32")


def _has_gpus() -> bool:
    """Whether there is a GPU for every process on this machine."""
    wanted = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return torch.cuda.is_available() and torch.cuda.device_count() >= wanted


def to_json_values(config: TrainConfig) -> dict[str, Any]:
    """Returns every value of a run as JSON values."""
    plain = {"format_version": FORMAT_VERSION} | to_plain(config)
    plain["target"] = json.loads(config.target.to_json())
    return plain


def write_train_config(config: TrainConfig, path: Path) -> None:
    """Writes a run's configuration as JSON, whole or not at all. Raises OSError."""
    write_text(path, json.dumps(to_json_values(config), indent=2) + "\n")


def read_train_config(path: Place) -> TrainConfig:
    """Reads what `write_train_config` wrote, strictly. Raises ConfigError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}); check the path"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); write it again with the run") from error
    if not isinstance(values, dict) or values.pop("format_version", None) != FORMAT_VERSION:
        raise ConfigError(
            f"{path}: not settings of format_version {FORMAT_VERSION}; start the run again"
        )
    if "target" in values:
        values["target"] = ModelConfig.from_dict(values["target"])
    try:
        return from_plain(TrainConfig, values, where=str(path))
    except ConfigError as error:
        raise ConfigError(f"{error}; start the run again") from error


def decisive_options(config: TrainConfig) -> dict[str, Any]:
    """Returns the options that decide a run's outcome, as JSON values."""
    options = to_json_values(config)["options"]
    return {key: options[key] for key in DECISIVE_OPTIONS}


def list_changes(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Returns the differences that decide the outcome: "learning_rate: 1e-05 -> 2e-05".

    It omits paths, the number of devices, how often a run saves and the like.
    """
    before, after = dict(_decisive(old)), dict(_decisive(new))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {_format(before.get(key, 'absent'))} -> {_format(after.get(key, 'absent'))}"
        for key in keys
        if before.get(key, "absent") != after.get(key, "absent")
    ]


def _decisive(config: TrainConfig) -> Iterator[tuple[str, object]]:
    """Yields what decides the outcome, by dotted name; the stage's fields have no prefix."""
    plain = to_json_values(config)
    yield from flatten(plain["stage"])
    yield from flatten({"target": plain["target"]})
    yield from flatten({"preference": plain["preference"]})
    yield from flatten({"reinforce": plain["reinforce"]})
    yield from flatten(decisive_options(config))


def _format(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "nothing"
    return "none" if value is None else str(value)
