"""What benchmarks/peers.py asks about, as files: checkpoints of random weights, and pictures.

onevision/        the 0.5B shape, bf16, and as `onevision convert --layout llava-hf` writes it in
                  onevision-hf/; onevision-w8a8/ is a compressed-tensors file of the same weights,
                  onevision-vllm/ one whose MLPs of the vision encoder are plain, for vLLM
llava/            LLaVA-1.5's encoder, projector and rules over a LLaMA of 24 blocks of width 1,024
                  (0.3 B, for want of memory for 7 B); llava-hf/ and, by optimum, llava-bf16/ and
                  llava-int8/ for OpenVINO
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.inference import picture
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.save import convert, save
from onevision.checkpoint.write_quantised import save_quantised
from onevision.config import ModelConfig
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import LLAVA_1_5_7B, ONEVISION_0_5B
from onevision.model.llava import LlavaNetwork
from onevision.quantization.groups import is_beyond_vllm, linear_layer, list_groups
from onevision.quantization.rounding import W8A8, round_weight

SIDE = 384  # of pictures for OneVision: two crops, 1,485 visual tokens
LLAVA_SIDE = 336  # 576 visual tokens
SMALL_LLAMA = replace(
    LLAVA_1_5_7B.language,
    vocab_size=4096,
    hidden_size=1024,
    intermediate_size=2816,
    num_layers=24,
    num_heads=16,
    num_kv_heads=16,
)


def onevision_config() -> ModelConfig:
    """Return the 0.5B shape with the embedded model's placeholder for images."""
    return replace(ONEVISION_0_5B, inputs=replace(ONEVISION_0_5B.inputs, image_token_id=3))


def llava_config() -> ModelConfig:
    """Return LLaVA-1.5 over a small LLaMA, with a template that the embedded tokenizer has."""
    inputs = replace(LLAVA_1_5_7B.inputs, image_token_id=3, template="llava_v0")
    return replace(LLAVA_1_5_7B, language=SMALL_LLAMA, inputs=inputs)


def write_model(directory: Path, config: ModelConfig) -> None:
    """Write random bf16 weights in our layout, and beside it as llava-hf, unless they are there."""
    if directory.exists():
        return
    tokenizer = Tokenizer.from_directory(BUNDLED["tiny"])
    network, generator = LlavaNetwork(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.04, generator=generator)
    save(network, config, tokenizer, directory, dtype=torch.bfloat16)
    convert(inspect(directory), beside(directory, "hf"), layout="llava-hf")


def beside(directory: Path, name: str) -> Path:
    """Return the directory of another form of a model."""
    return directory.with_name(f"{directory.name}-{name}")


@torch.inference_mode()
def write_w8a8(directory: Path, *, all_layers: bool = True) -> None:
    """Round a model's weights to 8 bits as `onevision quantize` does, without calibration.

    Random weights have no channels to rescale. Not `all_layers`: those that vLLM reads.
    """
    target = beside(directory, "w8a8" if all_layers else "vllm")
    if target.exists():
        return
    info = inspect(directory)
    network = load_network(info, dtype=torch.bfloat16)
    weights = {
        name: round_weight(linear_layer(network, name).weight.float(), W8A8)
        for group in list_groups(network)
        if all_layers or not is_beyond_vllm(network, group)
        for name in group.layers
    }
    tokenizer = Tokenizer.from_directory(directory)
    save_quantised(
        network, weights, W8A8, info.config, tokenizer, target,
        dtype=torch.bfloat16, companions={},
    )  # fmt: skip


def export_openvino(directory: Path, python: Path) -> None:
    """Let optimum export a llava-hf model for OpenVINO, whole and with weights in 8 bits."""
    for name, kind in (("bf16", "fp16"), ("int8", "int8")):  # optimum stores no bf16
        target = beside(directory, name)
        if target.exists():
            continue
        words = [python.with_name("optimum-cli"), "export", "openvino"]
        options = ["--task", "image-text-to-text", "--weight-format", kind]
        partial = beside(directory, f"{name}-partial")
        subprocess.run(
            [*words, "-m", beside(directory, "hf"), *options, partial],
            check=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        partial.rename(target)


def write_pictures(directory: Path, count: int, side: int) -> list[str]:
    """Write square pictures; returns their paths."""
    paths = [directory / f"{side}-{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            picture(side, side, number).source.save(path)  # type: ignore[union-attr] Pillow
    return [str(path) for path in paths]


def environment_of(python: Path) -> Mapping[str, str]:
    """Return what vLLM's page on CPUs advises: its OpenMP and tcmalloc, where they lie."""
    places = [
        python.parent.parent / "lib" / "libiomp5.so",
        *Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4"),
    ]
    found = [str(path) for path in places if path.is_file()]
    return os.environ | {"LD_PRELOAD": ":".join(found), "OMP_NUM_THREADS": "2"}
