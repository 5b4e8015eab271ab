"""Options and functions shared by several commands."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.conversation import Usage
from onevision.errors import InputError

if TYPE_CHECKING:
    from onevision.config import ModelConfig
    from onevision.generate.answer import Model
    from onevision.inputs.tokenizer import Tokenizer

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="'tiny', a checkpoint directory, or a hub id.")
]
# Of commands whose model is an argument, and an option as everywhere.
CheckpointArgument = Annotated[
    str | None, typer.Argument(help="'tiny' (default), a directory, or a hub id.")
]
SameModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="The same, as for other commands.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
DevicesOption = Annotated[
    int, typer.Option(help="Devices that share the language model, a process for each.", min=1)
]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
QuantizeOption = Annotated[
    str | None,
    typer.Option(
        help="int8: compute in 8-bit integers; int8-weights or int4: a language model with smaller "
        "weights (CPU)."
    ),
]
AdapterOption = Annotated[
    str | None,
    typer.Option("--adapter", help="A LoRA adapter for the model: its directory or hub id."),
]
AdaptersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        help="A LoRA adapter: DIR changes the model itself, NAME=DIR is served beside it as "
        "MODEL:NAME; repeatable.",
    ),
]
DraftOption = Annotated[
    str | None,
    typer.Option(
        "--draft",
        help="A smaller model of the same family that guesses tokens ahead; answers stay the same.",
    ),
]
KvInt8Option = Annotated[
    bool, typer.Option("--kv-int8", help="Hold keys and values in 8 bits: less memory, slower.")
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify", help="Compare weights with their checksums, adapters with bases."
    ),
]
SamplerOption = Annotated[
    str,
    typer.Option(
        help="Frames of a video: even, or as OneVision-2 has them: processor, vllm, lmms_eval."
    ),
]
MaxNewTokensOption = Annotated[int, typer.Option(help="Maximum tokens of an answer.")]
TemperatureOption = Annotated[
    float, typer.Option(help="0 is greedy; above 0, answers are sampled.")
]
SeedOption = Annotated[int | None, typer.Option(help="Makes sampled answers reproducible.")]
KeepOption = Annotated[
    float | None,
    typer.Option(help="Share of visual tokens that the model reads, 0.05 to 1; default all."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".flv", ".ogv")


def load_model(
    name: str,
    *,
    device: str,
    dtype: str,
    quantize: str | None = None,
    adapter: str | None = None,
    verify: bool = True,
    in_memory: bool = False,
    devices: int = 1,
    draft: str | None = None,
    kv_int8: bool = False,
) -> "Model":
    """Load a model, and an adapter onto it; imports torch.

    On a CPU, torch gets as many threads as are fastest now, beside what else runs here; processes
    of several devices divide its threads.
    """
    from onevision.accelerate.threads import choose_threads
    from onevision.generate.answer import load
    from onevision.generate.settings import EngineSettings

    loaded = load(
        name, device=device, dtype=dtype, quantize=quantize, adapter=adapter, verify=verify,
        in_memory=in_memory, devices=devices, draft=draft,
        settings=EngineSettings(kv_int8=kv_int8),
    )  # fmt: skip
    if device == "cpu" and devices == 1:
        choose_threads()
    return loaded


@dataclass(frozen=True, kw_only=True)
class AdapterChoice:
    """The adapters of a command that serves several models."""

    own: str | None  # of the model itself
    named: Mapping[str, str]  # those beside it


def parse_adapters(values: Sequence[str]) -> AdapterChoice:
    """Parse "DIR" and "NAME=DIR". Raises InputError."""
    own, named = list[str](), dict[str, str]()
    for value in values:
        name, equals, place = value.partition("=")
        if not equals or Path(value).exists():
            own.append(value)
        elif not re.fullmatch(r"[\w.-]{1,64}", name) or not place or name in named:
            raise InputError(
                f"--adapter is {value!r}; expected NAME=DIR with a name of its own of letters, "
                "digits, . _ and -"
            )
        else:
            named[name] = place
    if len(own) > 1:
        raise InputError(
            f"--adapter names {len(own)} adapters for the model itself; give them names: "
            f"--adapter first={own[0]} --adapter second={own[1]}"
        )
    return AdapterChoice(own=own[0] if own else None, named=named)


def load_variants(
    name: str,
    adapters: Sequence[str],
    *,
    device: str,
    dtype: str,
    quantize: str | None = None,
    verify: bool = True,
    in_memory: bool = False,
    devices: int = 1,
    draft: str | None = None,
    kv_int8: bool = False,
) -> "tuple[Model, dict[str, Model]]":
    """Load a model, and variants of it by the names of their adapters, which share its weights.

    Raises InputError for variants on several devices.
    """
    from onevision.checkpoint.hub import resolve_adapter
    from onevision.generate.variants import load_variants

    chosen = parse_adapters(adapters)
    if chosen.named and devices > 1:
        raise InputError(
            f"--devices {devices} serves one model; --adapter {next(iter(chosen.named))}=... needs "
            "one device: give a single --adapter DIR, or start a server for each"
        )
    for adapter in (*chosen.named.values(), *([chosen.own] if chosen.own else [])):  # first
        resolve_adapter(adapter)
    base = load_model(
        name, device=device, dtype=dtype, quantize=quantize, adapter=chosen.own, verify=verify,
        in_memory=in_memory, devices=devices, draft=draft, kv_int8=kv_int8,
    )  # fmt: skip
    variants = load_variants(
        base, name, chosen.named, device=device, dtype=dtype, quantize=quantize, verify=verify,
        in_memory=in_memory,
    )  # fmt: skip
    return base, {key: variant.model for key, variant in variants.items()}


def model_config(name: str) -> "ModelConfig":
    """Return the config of a known architecture or a checkpoint."""
    from onevision.known_models import ARCHITECTURES

    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    from onevision.checkpoint.hub import resolve
    from onevision.checkpoint.load import inspect

    return inspect(resolve(name)).config


def read_tokenizer(path: Path) -> "Tokenizer":
    """Read a tokenizer.json, given itself or by its directory. Raises InputError."""
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.inputs.tokenizer_guard import try_tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        definition = file.read_text(encoding="utf-8")
        try_tokenizer(definition, name=str(file))
        return Tokenizer(definition, name=str(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(
            f"--tokenizer is {path}, but {file} cannot be read ({reason}); give a tokenizer.json, "
            "or a directory with one"
        ) from error


def refuse_unheeded(context: typer.Context, heeded: Collection[str], *, use: str) -> None:
    """Refuses options of the command line that `use` does not heed. Raises InputError."""
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        if name not in heeded and source is not None and source.name == "COMMANDLINE":
            raise InputError(f"{option.opts[0]} has no effect on {use}; leave it out")


def refuse_options(context: typer.Context, idle: Collection[str], *, use: str) -> None:
    """Refuses options of the command line that `use` alone does not heed. Raises InputError."""
    refuse_unheeded(context, context.params.keys() - idle, use=use)


def check_output(path: Path, *, directory: bool = False) -> None:
    """Refuses a place that cannot be written to, before anything is computed. Raises InputError.

    `path` is a file, or a directory, that will be made if it is missing.
    """
    if path.exists() and path.is_dir() != directory:
        found, expected = ("a file", "directory") if directory else ("a directory", "file")
        raise InputError(f"{path}: it is {found}; expected the name of a {expected}")
    nearest = path if path.exists() else path.parent
    while not nearest.exists():
        nearest = nearest.parent
    if not path.exists() and not nearest.is_dir():
        raise InputError(f"{path}: {nearest} is a file; expected a directory")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{path}: no permission to write in {nearest}; choose another place")


def parse_size(size: str) -> tuple[int, int]:
    """Parse "1920x1080" into (width, height). Raises InputError."""
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", size.strip())
    if match is None:
        raise InputError(f"size {size!r} is not WIDTHxHEIGHT, for example 1920x1080")
    return int(match[1]), int(match[2])


def is_video(path: str) -> bool:
    """Whether the file has the suffix of a video format."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def format_usage(usage: Usage) -> str:
    """Format usage as "105 image + 24 text tokens in, 3 out"."""
    kinds = (
        (usage.image_tokens, "image"),
        (usage.video_tokens, "video"),
        (usage.text_tokens, "text"),
    )
    into = " + ".join(f"{count:,} {kind}" for count, kind in kinds if count)
    dropped = f" ({usage.dropped_tokens:,} dropped)" if usage.dropped_tokens else ""
    return f"{into} tokens in{dropped}, {usage.completion_tokens} out"


def usage_json(usage: Usage) -> dict[str, int]:
    """Return usage as a JSON object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "text_tokens": usage.text_tokens,
        "image_tokens": usage.image_tokens,
        "video_tokens": usage.video_tokens,
        "dropped_tokens": usage.dropped_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "drafted_tokens": usage.drafted_tokens,
        "accepted_tokens": usage.accepted_tokens,
    }


def is_address(name: str) -> bool:
    """Return whether a model is an endpoint's URL. Raises InputError for one without its http."""
    if name.startswith(("http://", "https://")):
        return True
    if "://" in name or re.search(r":\d+(/|$)", name):
        raise InputError(f"{name!r} is no endpoint's address; expected http:// or https:// first")
    return False
