"""The quantization_config of a checkpoint -> how its weights are stored, or an error that names it.

A key that could change what the weights mean is read or refused by its name; those that only say
how they were made are not looked at.
"""

from dataclasses import dataclass
from typing import Literal

from onevision.checkpoint.kinds import Values
from onevision.errors import CheckpointError

# How integers and scales lie in tensors; `quantised_formats.py` has the layouts.
Storage = Literal["int-quantized", "pack-quantized", "awq", "gptq", "gptq_v2"]
ADVICE = "give the original checkpoint in BF16, F16 or F32; --quantize quantises it as it is loaded"
# Bits that fill the 32 of a word.
WHOLE_BITS = (2, 4, 8)
# What compressed-tensors means by an argument that is absent.
ARGUMENTS: Values = {"type": "int", "symmetric": True, "dynamic": False}
# Where a config.json says that weights are quantised; the second is of old compressed-tensors.
CONFIG_KEYS = ("quantization_config", "compression_config")


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How the quantised weights of a checkpoint are stored: one way for all."""

    storage: Storage
    # Of a weight.
    bits: int
    # Inputs that share a scale; None if all inputs of an output channel do.
    group: int | None
    # Whether 0 is stored as the middle of the range; otherwise with a zero point of each group.
    symmetric: bool
    # Whether inputs are in groups by an index that must be stored beside them (act-order).
    ordered: bool = False

    @property
    def has_int8_activations(self) -> bool:
        """Whether products are meant to be computed in 8-bit integers."""
        return self.storage == "int-quantized"

    @property
    def name(self) -> str:
        """The usual short name: W8A8, W4A16."""
        return f"W{self.bits}A{8 if self.has_int8_activations else 16}"

    def describe(self) -> str:
        """Returns a line such as "W4A16, group 128 (compressed-tensors pack-quantized)"."""
        group = "" if self.group is None else f", group {self.group}"
        return f"{self.name}{group} ({FORMATS[self.storage]})"


FORMATS: dict[Storage, str] = {
    "int-quantized": "compressed-tensors int-quantized",
    "pack-quantized": "compressed-tensors pack-quantized",
    "awq": "AWQ gemm",
    "gptq": "GPTQ",
    "gptq_v2": "GPTQ v2",
}


def find_quantization(values: Values) -> object:
    """Returns what a config.json says about quantisation; None if it says nothing."""
    text = values.get("text_config")
    for part in (values, text if isinstance(text, dict) else {}):
        for key in CONFIG_KEYS:
            if part.get(key):
                return part[key]
    return None


def read_scheme(stated: object, *, where: str) -> Scheme:
    """Reads a quantization_config. Raises CheckpointError for one that is not supported."""
    if not isinstance(stated, dict):
        raise CheckpointError(f"{where}: quantization_config is {stated!s:.60}; expected an object")
    method = stated.get("quant_method")
    if method == "compressed-tensors":
        return _read_compressed_tensors(stated, where=where)
    if method == "awq":
        return _read_awq(stated, where=where)
    if method in ("gptq", None) and "bits" in stated:  # quantize_config.json has no method
        return _read_gptq(stated, where=where)
    raise unsupported(str(method), where=where)


def unsupported(kind: str, *, where: str) -> CheckpointError:
    """Returns the error for weights of a kind that is not read."""
    return CheckpointError(f"{where}: quantised weights ({kind}); {ADVICE}")


def _read_compressed_tensors(stated: Values, *, where: str) -> Scheme:
    for key in ("kv_cache_scheme", "transform_config"):
        if stated.get(key):
            raise unsupported(f"compressed-tensors with {key}", where=where)
    sparsity = _object(stated, "sparsity_config", where=where)
    if sparsity.get("format", "dense") != "dense":
        raise unsupported(f"compressed-tensors with sparsity {sparsity['format']}", where=where)
    groups = stated.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(one, dict) for one in groups.values()):
        raise CheckpointError(
            f"{where}: quantization_config.config_groups is {groups!s:.60}; expected an object of "
            "groups, each with targets and weights"
        )
    schemes = {
        _read_group(group, group.get("format") or stated.get("format"), where=where)
        for group in groups.values()
    }
    if len(schemes) != 1:
        raise unsupported(f"compressed-tensors with {len(schemes)} schemes", where=where)
    return schemes.pop()


def _read_group(group: Values, storage: object, *, where: str) -> Scheme:
    """Reads one entry of `config_groups`: its weights, and what its inputs are rounded to."""
    name = f"compressed-tensors {storage}"
    if group.get("output_activations"):
        raise unsupported(f"{name} with output_activations", where=where)
    weights = _object(group, "weights", where=where)
    inputs = _object(group, "input_activations", where=where)
    if storage == "int-quantized":
        expected: Values = {"num_bits": 8, "strategy": "channel"}
        _check(weights, expected, name=f"{name}, weights", where=where)
        expected = {"num_bits": 8, "strategy": "token", "dynamic": True}
        _check(inputs, expected, name=f"{name}, input_activations", where=where)
        return Scheme(storage="int-quantized", bits=8, group=None, symmetric=True)
    if storage != "pack-quantized":
        raise unsupported(name, where=where)
    if inputs:
        raise unsupported(f"{name} with input_activations", where=where)
    bits, group_size = weights.get("num_bits"), weights.get("group_size")
    symmetric = weights.get("symmetric", True) is True
    _check(weights, {"num_bits": bits, "symmetric": symmetric}, name=name, where=where)
    if bits not in (4, 8):
        raise unsupported(f"{name} of {bits} bits", where=where)
    strategy = weights.get("strategy") or ("channel" if group_size in (None, -1) else "group")
    if strategy not in ("group", "channel"):
        raise unsupported(f"{name}, strategy {strategy}", where=where)
    return Scheme(
        storage="pack-quantized",
        bits=bits,
        group=_group(group_size, where=where) if strategy == "group" else None,
        symmetric=symmetric,
        ordered=weights.get("actorder") in ("group", "dynamic", True),
    )


def _check(values: Values, expected: Values, *, name: str, where: str) -> None:
    """Refuses quantisation arguments with another value than the expected ones."""
    for key, value in {**ARGUMENTS, **expected}.items():
        found = values.get(key, ARGUMENTS.get(key))
        if found != value:
            raise unsupported(f"{name}: {key} is {found!r}, supported is {value!r}", where=where)


def _object(values: Values, key: str, *, where: str) -> Values:
    """Returns an object of a config; null and none are an empty one."""
    found = values.get(key) or {}
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{where}: quantization_config: {key} is {found!s:.60}; expected an object"
        )
    return found


def _read_awq(stated: Values, *, where: str) -> Scheme:
    expected = {"bits": 4, "version": "gemm", "zero_point": True}
    for key, value in expected.items():
        found = stated.get(key, value)
        if (found.lower() if isinstance(found, str) else found) != value:
            raise unsupported(f"AWQ: {key} is {found!r}, supported is {value!r}", where=where)
    group = _group(stated.get("group_size", 128), where=where)
    return Scheme(storage="awq", bits=4, group=group, symmetric=False)


def _read_gptq(stated: Values, *, where: str) -> Scheme:
    storage = stated.get("checkpoint_format") or stated.get("format") or "gptq"
    if stated.get("is_marlin_format") or storage not in ("gptq", "gptq_v2"):
        raise unsupported(f"GPTQ in the format {storage}", where=where)
    if stated.get("dynamic"):
        raise unsupported("GPTQ with settings of its own for some layers: dynamic", where=where)
    if stated["bits"] not in WHOLE_BITS:
        raise unsupported(f"GPTQ of {stated['bits']!r} bits", where=where)
    if stated.get("pack_dtype", "int32") != "int32":
        raise unsupported(f"GPTQ packed in {stated['pack_dtype']!r}", where=where)
    return Scheme(
        storage=storage,
        bits=stated["bits"],
        group=_group(stated.get("group_size", -1), where=where),
        symmetric=False,  # the zero points are stored either way
    )


def _group(size: object, *, where: str) -> int | None:
    """Returns the inputs of a group; None for -1, which stands for all."""
    if size == -1:
        return None
    if type(size) is not int or size < 1:
        raise CheckpointError(
            f"{where}: quantization_config: group_size is {size!r}; expected a whole number, "
            "such as 128, or -1"
        )
    return size
