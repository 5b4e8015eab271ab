"""What a user asks of `onevision finetune` -> a directory that belongs to this request.

OUT/finetune.json   the request; the same one continues, another one is refused
OUT/base/           the model it starts from, if --adapter was merged to make it
OUT/result.json     written last: the held-out losses and scores, before and after
"""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from onevision.errors import ConfigError
from onevision.files import write_json
from onevision.train.directory import RunDirectory
from onevision.train.validation.split import parse_share
from onevision.values import from_plain, to_plain

Method = Literal["auto", "lora", "qlora", "full"]
BITS = (8, 4)
REQUEST, RESULT = "finetune.json", "result.json"
# What may differ when a run continues: it decides where, not what, is computed.
MOVABLE = ("device", "devices", "memory_gib", "verify")
NOTHING = "none"


@dataclass(frozen=True, kw_only=True)
class FinetuneRequest:
    """What is to be learned, from what, and how. Raises ConfigError if a value is out of range."""

    # A file or folder of records, and the checkpoint to start from.
    data: str
    start: str = "tiny"
    # An adapter to merge into that checkpoint first, and whether weights must have their
    # checksums and the adapter its own base.
    adapter: str | None = None
    verify: bool = True
    # Adapters, adapters over weights in few bits, or all weights; "auto" is what fits.
    method: Method = "auto"
    # Bits of those weights, of qlora: 8 or 4; None: 8 if that fits, otherwise 4.
    bits: int | None = None
    lora_rank: int | None = None
    epochs: int | None = None
    # A share of the samples, a file of others, or "none".
    held_out: str = "0.05"
    # Measurements in a row without a lower held-out loss that end the run; 0: never.
    patience: int = 3
    seed: int = 0
    # Where relative media paths start, and where links may lead.
    roots: tuple[str, ...] = ()
    # "key=value" of the stage or the run.
    settings: tuple[str, ...] = ()
    # "auto" is the GPU, if there is one.
    device: str = "auto"
    devices: int = 1
    # Of a device, to plan with; None is what it has.
    memory_gib: float | None = None

    def __post_init__(self) -> None:
        for name in ("lora_rank", "epochs", "devices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}; expected at least 1")
        if self.patience < 0:
            raise ConfigError(f"--patience is {self.patience}; expected 0 or more")
        if self.memory_gib is not None and not self.memory_gib > 0:
            raise ConfigError(f"--memory is {self.memory_gib}; expected GiB, more than 0")
        if self.method not in get_args(Method):
            raise ConfigError(
                f"--method is {self.method!r}; expected one of {', '.join(get_args(Method))}"
            )
        if self.method == "full" and self.lora_rank is not None:
            raise ConfigError("--lora-rank is for adapters, and --method full has none; drop one")
        self._check_bits()
        is_file = self.holds_out and parse_share(self.held_out) is None
        if is_file and not Path(self.held_out).exists():
            raise ConfigError(
                f"--held-out is {self.held_out!r}; expected a share such as 0.05, a file of "
                "records, or none"
            )

    def _check_bits(self) -> None:
        if self.bits is None:
            return
        if self.bits not in BITS:
            raise ConfigError(f"--bits is {self.bits}; expected 8 or 4")
        if self.method != "qlora":
            raise ConfigError(
                f"--bits is for --method qlora, and this is --method {self.method}; give that one, "
                "or drop --bits"
            )
        if told := [one for one in self.settings if one.strip().startswith("lora_base")]:
            raise ConfigError(
                f"--bits {self.bits} says how weights are stored, and so does --set {told[0]}; "
                "drop one"
            )

    @property
    def holds_out(self) -> bool:
        """Whether some samples are held out."""
        return self.held_out != NOTHING


@dataclass(frozen=True)
class FinetuneDirectory:
    """The files of a request; those of its training are in `RunDirectory`."""

    path: Path

    @property
    def run(self) -> RunDirectory:
        """The files of the training run."""
        return RunDirectory(self.path)

    @property
    def base(self) -> Path:
        """The model it starts from, if an adapter was merged to make it."""
        return self.path / "base"

    @property
    def samples(self) -> Path:
        """The manifest of the samples that can be learned from."""
        return self.path / "samples"

    @property
    def questions(self) -> Path:
        """The held-out samples, as a benchmark."""
        return self.path / "held-out"

    @property
    def answers(self) -> Path:
        """The answers to them, before and after."""
        return self.path / "eval"

    @property
    def result(self) -> Path:
        """What came of it; written last."""
        return self.path / RESULT

    @property
    def is_finished(self) -> bool:
        """Whether everything is written."""
        return self.result.is_file() and self.run.checkpoint.is_dir()

    @property
    def has_begun(self) -> bool:
        """Whether the settings of its training are decided."""
        return (self.path / REQUEST).is_file() and self.run.settings.is_file()

    def agree(self, request: FinetuneRequest) -> None:
        """Refuses a directory of another request, or of something else. Raises ConfigError."""
        file = self.path / REQUEST
        if not file.is_file():
            others = sorted(self.path.iterdir()) if self.path.is_dir() else []
            if others:
                raise ConfigError(
                    f"{self.path}: it holds other files ({others[0].name}) and no {REQUEST}; give "
                    "another --output, or an empty directory"
                )
            return
        before = read_request(file)
        odd = [
            f"{name.replace('_', '-')}: {_say(vars(before)[name])} -> {_say(vars(request)[name])}"
            for name in (field.name for field in fields(FinetuneRequest))
            if name not in MOVABLE and vars(before)[name] != vars(request)[name]
        ]
        if odd:
            raise ConfigError(
                f"{self.path} began with other settings ({'; '.join(odd)}); use those to continue, "
                "or give another --output"
            )

    def begin(self, request: FinetuneRequest) -> None:
        """Writes the request. Raises ConfigError if the directory cannot be written to."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / REQUEST, to_plain(request))
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be written to ({error.strerror}); give another --output"
            ) from error


def read_request(path: Path) -> FinetuneRequest:
    """Reads what `begin` wrote. Raises ConfigError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give another --output") from error
    return from_plain(FinetuneRequest, values, where=str(path))


def resolve_paths(request: FinetuneRequest) -> FinetuneRequest:
    """Returns the request with absolute paths, so that it is the same in any directory."""
    held_out = request.held_out
    if request.holds_out and parse_share(held_out) is None:
        held_out = str(Path(held_out).resolve())
    return replace(
        request,
        data=str(Path(request.data).resolve()) if Path(request.data).exists() else request.data,
        start=_resolve_directory(request.start),
        adapter=None if request.adapter is None else _resolve_directory(request.adapter),
        held_out=held_out,
        roots=tuple(str(Path(root).resolve()) for root in request.roots),
    )


def _resolve_directory(name: str) -> str:
    """Returns the absolute path of a directory; any other name is one of the hub."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_dir() else name


def _say(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "default" if value is None else str(value)
