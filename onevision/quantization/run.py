"""A model's name and a directory -> the quantised checkpoint in it, with a report of what it cost.

quantization.json    the scheme, where calibration samples came from and which were left out, the
                     divergence of next tokens, and each group of layers with its errors
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from onevision.accelerate.apply import accelerate_training
from onevision.accelerate.processor import can_multiply
from onevision.checkpoint.files import DTYPES
from onevision.checkpoint.hub import resolve
from onevision.checkpoint.load import (
    EMBEDDING,
    CheckpointInfo,
    check_plain,
    inspect,
    load_network,
    load_tokenizer,
)
from onevision.checkpoint.save import COMPANIONS
from onevision.checkpoint.write_files import llava_hf_files
from onevision.checkpoint.write_quantised import save_quantised
from onevision.errors import CheckpointError
from onevision.generate.answer import load
from onevision.quantization.calibration import Calibration, find_questions, prepare
from onevision.quantization.quantize import (
    GroupResult,
    Progress,
    QuantizeConfig,
    Quantized,
    quantize_network,
)

REPORT = "quantization.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class QuantizeResult:
    """What was written, and what it cost."""

    scheme: str
    # Where calibration samples came from, how many were used, and why others were left out.
    calibration: str
    num_samples: int
    skipped: tuple[str, ...]
    # Mean KL divergence of next tokens in nats, and the share of equal likeliest tokens, at this
    # many places of the calibration samples.
    kl: float
    same: float
    num_places: int
    # Of all tensors.
    num_bytes_before: int
    num_bytes: int
    groups: tuple[GroupResult, ...]


def quantize_model(
    model: str | Path,
    output: Path,
    config: QuantizeConfig,
    *,
    calibrate: Path | None = None,
    num_samples: int = 64,
    verify: bool = True,
    on_progress: Progress = lambda *_: None,
) -> QuantizeResult:
    """Quantises a model and writes it to `output`, whole or not at all.

    `calibrate` is a folder of pictures or a file of records; None takes the embedded demo's. With
    `verify`, weights are compared with their checksums. Raises CheckpointError for a model that is
    quantised already or cannot be written, InputError and DataError for calibration data.
    """
    info = inspect(resolve(model), verify=verify)
    check_plain(info, use="quantising takes")
    _check_output(output)
    llava_hf_files(info.config, load_tokenizer(info))  # a model it cannot express is said first
    calibration = prepare(
        load(info.directory, verify=verify), find_questions(calibrate, num_samples=num_samples)
    )
    dtype = DTYPES[info.tensors[EMBEDDING].dtype]
    network = load_network(
        info,
        dtype=dtype if can_multiply(dtype) else torch.float32,
        in_memory=True,
        verify=False,  # it was, a moment ago
    )
    quantized = quantize_network(
        accelerate_training(network), calibration.samples, config, on_progress=on_progress
    )
    result = _describe(info, calibration, quantized)
    save_quantised(
        quantized.network,
        quantized.weights,
        quantized.scheme,
        info.config,
        load_tokenizer(info),
        output,
        dtype=dtype,
        companions=_companions(info.texts) | {REPORT: _to_json(result)},
    )
    return result


def _check_output(output: Path) -> None:
    """Refuses a directory that holds anything, before anything is computed."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CheckpointError(f"{output}: exists; give the name of a new directory")


def _describe(
    info: CheckpointInfo, calibration: Calibration, quantized: Quantized
) -> QuantizeResult:
    before = sum(tensor.num_bytes for tensor in info.tensors.values())
    plain = {f"{name}.weight" for name in quantized.weights}
    kept = [tensor.num_bytes for name, tensor in info.tensors.items() if name not in plain]
    parts = [w.encode(quantized.scheme).values() for w in quantized.weights.values()]
    rounded = sum(t.numel() * t.element_size() for tensors in parts for t in tensors)
    return QuantizeResult(
        scheme=quantized.scheme.describe(),
        calibration=calibration.source,
        num_samples=len(calibration.samples),
        skipped=calibration.skipped,
        kl=quantized.kl,
        same=quantized.same,
        num_places=quantized.num_places,
        num_bytes_before=before,
        num_bytes=sum(kept) + rounded,
        groups=quantized.groups,
    )


def _companions(directory: Path) -> dict[str, str]:
    found = [directory / name for name in COMPANIONS if (directory / name).is_file()]
    return {path.name: path.read_text(encoding="utf-8") for path in found}


def _to_json(result: QuantizeResult) -> str:
    values: Mapping[str, Any] = {"format_version": FORMAT_VERSION, **asdict(result)}  # Any: JSON
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
