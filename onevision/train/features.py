"""Crops -> their features by a frozen vision encoder, computed once and kept on disk.

    features/<digest of the encoder's weights>-<dtype it computes in>/
        3f/3f9c...safetensors     patch features of one crop, by the digest of its pixels

What is read equals what was computed, to the last bit. The rounding of a crop's features depends a
little on the crops encoded with it, so a run with kept features equals one without up to rounding.
One crop of the published models takes 3.4 MB in fp32.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from onevision.anyres import Layout
from onevision.checkpoint.files import save_tensors
from onevision.errors import ConfigError
from onevision.model.native_vision import NativeEncoder
from onevision.train.options import RunOptions
from onevision.train.stage import Stage

FEATURES = "features"  # the name of the one tensor in a file


def keep_features(
    encoder: nn.Module, stage: Stage, options: RunOptions, *, warn: Callable[[str], object]
) -> None:
    """Makes the encoder compute each crop once, if the options name a directory.

    Raises ConfigError if the encoder trains or is sharded.
    """
    if options.features is None:
        return
    if "vision_encoder" in stage.trainable:
        raise ConfigError(
            f"features can be kept of a frozen vision encoder, but stage {stage.name} trains it; "
            "leave out `features`"
        )
    if isinstance(encoder, NativeEncoder):
        raise ConfigError(
            "features are kept by crop, but this model's encoder sees pictures whole; "
            "leave out `features`"
        )
    if options.sharing == "shard":
        raise ConfigError(
            "features cannot be kept with sharing=shard, where all processes encode together; "
            "set sharing=replicate, or leave out `features`"
        )
    store = FeatureStore(Path(options.features), encoder, warn=warn)
    compute = encoder.forward

    def forward(pixel_values: Tensor, _owners: Sequence[Layout] = ()) -> Tensor:
        with torch.no_grad():
            return store.encode(pixel_values, compute)

    encoder.forward = forward


class FeatureStore:
    """The features of one encoder. Its weights are hashed at the first crop and must not change."""

    def __init__(
        self, directory: Path, encoder: nn.Module, *, warn: Callable[[str], object]
    ) -> None:
        self.directory, self.encoder, self.warn = directory, encoder, warn
        self.digest: str | None = None
        self.full = False  # whether writing has failed

    def encode(self, pixel_values: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns patch features [N, P, C] of crops [N, 3, H, W]; `compute` makes missing ones."""
        home = self._home(pixel_values.device.type)
        paths = [home / key[:2] / f"{key}.safetensors" for key in map(_digest, pixel_values.cpu())]
        found = [_read(path) for path in paths]
        missing = [number for number, one in enumerate(found) if one is None]
        if missing:
            made = compute(pixel_values[missing])  # [M, P, C]
            for number, features in zip(missing, made, strict=True):
                found[number] = features
                self._write(features, paths[number])
        kept = [one.to(pixel_values.device) for one in found if one is not None]
        return torch.stack(kept)

    def _home(self, device: str) -> Path:
        """Returns the directory of these weights and of the dtype in use."""
        if self.digest is None:
            digest = hashlib.blake2b(digest_size=16)
            for parameter in self.encoder.parameters():
                digest.update(_digest(parameter.detach().cpu()).encode())
            self.digest = digest.hexdigest()
        low = torch.is_autocast_enabled(device)
        kind = torch.get_autocast_dtype(device) if low else next(self.encoder.parameters()).dtype
        return self.directory / f"{self.digest}-{str(kind).removeprefix('torch.')}"

    def _write(self, features: Tensor, path: Path) -> None:
        """Writes a file whole; several processes may write the same one."""
        if self.full:
            return
        try:
            save_tensors({FEATURES: features.cpu()}, path)
        except (OSError, SafetensorError) as error:
            self.full = True
            self.warn(f"{self.directory}: no more features are kept ({error}); training continues")


def _read(path: Path) -> Tensor | None:
    """Returns what a file holds; None if it is missing or damaged."""
    try:
        return load_file(path)[FEATURES]
    except (OSError, SafetensorError, KeyError):
        return None


def _digest(tensor: Tensor) -> str:
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=16)
    digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
