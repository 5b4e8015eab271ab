"""A checkpoint -> the part of it that one of several devices holds (tensor parallelism).

Device r of n has every n-th part of the heads of attention, of the hidden width of each MLP and of
the vocabulary of the head (Megatron-LM, arXiv 1909.08053, section 3). Each has a copy of the vision
encoder, unless it is one at native resolution. The first device also has what is not divided:
projector, embedding, and such an encoder.
"""

from dataclasses import dataclass, replace

import torch
from safetensors import safe_open
from torch import Tensor, nn

from onevision.accelerate.empty import without_memory
from onevision.accelerate.int4 import GROUP
from onevision.checkpoint.files import StoredTensor, check_finite
from onevision.checkpoint.load import EMBEDDING, CheckpointInfo, load_network
from onevision.checkpoint.quantised_formats import QuantisedTensor
from onevision.config import ModelConfig, VisionConfig
from onevision.errors import InputError
from onevision.model.llava import LlavaNetwork

VISION = "vision_encoder."
LANGUAGE, HEAD = "language_model.", "language_model.head.weight"
# By the end of a tensor's name, the axis along which it is divided.
BY_ROWS = (
    *("attention.query.weight", "attention.key.weight", "attention.value.weight"),
    *("attention.query.bias", "attention.key.bias", "attention.value.bias"),
    *("mlp.gate.weight", "mlp.up.weight", "head.weight"),
)
BY_COLUMNS = ("attention.output.weight", "mlp.down.weight")


@dataclass(frozen=True, kw_only=True)
class SlicedTensor(StoredTensor):
    """A part of a stored tensor: `shape[axis]` rows or columns of `whole`, from `begin` on."""

    whole: StoredTensor
    axis: int
    begin: int

    def read(self) -> Tensor:
        """Returns the part, in memory of its own; only its bytes are read where that is possible.

        Of a tensor that an adapter changes, the whole is read and given back.
        """
        own = slice(self.begin, self.begin + self.shape[self.axis])
        parts = (slice(None),) * self.axis + (own,)
        whole = self.whole
        if type(whole) is not StoredTensor or whole.change or whole.first_row is not None:
            return whole.read()[parts].clone()
        with safe_open(self.path, framework="pt") as file:
            return file.get_slice(whole.name)[parts]


@dataclass(frozen=True, kw_only=True)
class SlicedQuantised(QuantisedTensor):
    """A part of a quantised weight, as `SlicedTensor` is of a plain one.

    In int8 arithmetic, activations are rounded by the largest number of each device's own part.
    """

    whole: QuantisedTensor
    axis: int
    begin: int

    def read(self) -> Tensor:
        """Returns the part, multiplied out, in memory of its own."""
        return self._cut(self.whole.read())

    def read_int8(self) -> tuple[Tensor, Tensor]:
        """Returns the part of the integers, in memory of its own, and the scales of its rows."""
        weight, scale = self.whole.read_int8()
        return self._cut(weight), scale if self.axis else self._cut(scale)

    def read_int4(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the part of the numbers, scales and middles, in memory of its own."""
        numbers, scale, middle = self.whole.read_int4()
        by_group = GROUP if self.axis else 1
        return self._cut(numbers), self._cut(scale, each=by_group), self._cut(middle, each=by_group)

    def _cut(self, whole: Tensor, *, each: int = 1) -> Tensor:
        """Returns the part of a tensor that has one number for `each` of those along the axis."""
        begin, size = self.begin // each, self.shape[self.axis] // each
        return whole.narrow(self.axis, begin, size).clone()


def count_parts(config: ModelConfig, count: int) -> None:
    """Raises InputError if a model cannot be divided among `count` devices."""
    language = config.language
    for value, what in (
        (language.num_kv_heads, "key/value heads"),
        (language.num_heads, "query heads"),
        (language.intermediate_size, "hidden numbers of its MLP"),
    ):
        if count < 1 or value % count:
            able = [n for n in range(1, language.num_kv_heads + 1) if _divides(config, n)]
            raise InputError(
                f"{count} devices cannot share the {value} {what} of this model; "
                f"expected one of {', '.join(map(str, able))}"
            )


def load_part(
    info: CheckpointInfo,
    *,
    rank: int,
    count: int,
    dtype: torch.dtype | None,
    device: torch.device | str,
    in_memory: bool = False,
    verify: bool = True,
    keep_int4: bool = False,
) -> tuple[LlavaNetwork, CheckpointInfo]:
    """Builds what device `rank` of `count` computes, and says of which tensors it is made.

    Its blocks give a part of their sums. Where the vocabulary is not a multiple of `count`, the
    first device has the head alone. With `verify` the device's own weights must be finite; the
    first compares checksums. Raises InputError, CheckpointError.
    """
    count_parts(info.config, count)
    part = divide(info, rank=rank, count=count)
    with without_memory():
        network = LlavaNetwork(part.config)
        decoder = network.language_model
        rows, width = part.tensors[HEAD].shape if HEAD in part.tensors else (0, 0)
        decoder.head = nn.Linear(width, rows, bias=False)
    if rank:
        if is_native_encoder(part.config):
            network.add_module("vision_encoder", nn.Identity())
        network.add_module("projector", nn.Identity())
        network.image_newline = None
        decoder.add_module("embedding", nn.Identity())
        if not rows:
            decoder.add_module("head", nn.Identity())
    if verify and rank:
        for tensor in part.tensors.values():
            check_finite(tensor.read(), tensor.name, where=tensor.path)
    load_network(
        part, dtype=dtype, device=device, in_memory=in_memory, verify=verify and not rank,
        keep_int4=keep_int4, network=network,
    )  # fmt: skip
    return network, part


def divide(info: CheckpointInfo, *, rank: int, count: int) -> CheckpointInfo:
    """Returns a description of what device `rank` of `count` holds."""
    language = info.config.language
    own = replace(
        language,
        num_heads=language.num_heads // count,
        num_kv_heads=language.num_kv_heads // count,
        intermediate_size=language.intermediate_size // count,
        head_dim=language.head_size,
        tie_embeddings=False,
    )
    stored = dict(info.tensors)
    stored.setdefault(HEAD, stored[EMBEDDING])  # tied
    is_native = is_native_encoder(info.config)
    parts = {
        name: _part(name, tensor, rank, count, is_native=is_native)
        for name, tensor in stored.items()
    }
    return replace(
        info,
        config=replace(info.config, language=own),
        tensors={name: part for name, part in parts.items() if part is not None},
    )


def _part(
    name: str, tensor: StoredTensor, rank: int, count: int, *, is_native: bool
) -> StoredTensor | None:
    """Returns what a device holds of a tensor: a part, the whole, or nothing."""
    if name.startswith(VISION) and not is_native:
        return tensor
    in_blocks = name.startswith(LANGUAGE) and name != EMBEDDING
    if not in_blocks or (name == HEAD and tensor.shape[0] % count):
        return None if rank else tensor
    if not name.endswith(BY_ROWS + BY_COLUMNS):
        return tensor  # norms
    axis = 1 if name.endswith(BY_COLUMNS) else 0
    size = tensor.shape[axis] // count
    own = {
        "path": tensor.path,
        "name": tensor.name,
        "shape": (*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]),
        "num_bytes": tensor.num_bytes // count,
        "dtype": tensor.dtype,
        "axis": axis,
        "begin": rank * size,
    }
    if isinstance(tensor, QuantisedTensor):
        return SlicedQuantised(**own, whole=tensor, parts=tensor.parts, scheme=tensor.scheme)
    return SlicedTensor(**own, whole=tensor)


def is_native_encoder(config: ModelConfig) -> bool:
    """Whether crops see each other in the vision encoder, so that one device has all of them."""
    return isinstance(config.vision, VisionConfig) and config.vision.rotary


def _divides(config: ModelConfig, count: int) -> bool:
    language = config.language
    sizes = (language.num_kv_heads, language.num_heads, language.intermediate_size)
    return not any(size % count for size in sizes)
