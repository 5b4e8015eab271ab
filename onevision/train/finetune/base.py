"""A request -> the checkpoint that training starts from; with --adapter, a merged one is written.

What is trained lies on the merged weights, so those are kept in OUT/base: the adapter of the result
names them and carries their digest.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from onevision.checkpoint.hub import resolve_adapter
from onevision.checkpoint.load import CheckpointInfo, inspect
from onevision.checkpoint.names import OURS
from onevision.checkpoint.save import convert
from onevision.train.finetune.request import FinetuneDirectory, FinetuneRequest
from onevision.train.start import find_start


@dataclass(frozen=True, kw_only=True)
class Base:
    """The model below what is trained."""

    # Where it is; with an adapter, not before `write`.
    directory: Path
    # What it is, read without its weights; an adapter is merged into the tensors as they are read.
    source: CheckpointInfo
    adapter: Path | None
    verify: bool

    def write(self) -> str | None:
        """Writes the merged checkpoint and says so; None without an adapter.

        It has the types of the checkpoint below. Raises CheckpointError.
        """
        if self.adapter is None:
            return None
        shutil.rmtree(self.directory, ignore_errors=True)  # of a call that was stopped here
        convert(self.source, self.directory, layout=OURS, verify=self.verify)
        return f"{self.adapter} merged: training starts from {self.directory}"


def find_base(request: FinetuneRequest, directory: FinetuneDirectory) -> Base:
    """Finds what a request starts from. Raises CheckpointError, ConfigError, ModelNotFoundError."""
    start = find_start(request.start)
    adapter = None if request.adapter is None else resolve_adapter(request.adapter)
    return Base(
        directory=start if adapter is None else directory.base.resolve(),
        source=inspect(start, adapter=adapter, verify=request.verify),
        adapter=adapter,
        verify=request.verify,
    )
