"""Directory of a released language model -> what a network that reads text alone is filled from.

A writer needs no eyes. The network is that of every other model; its vision encoder is a block of
zeros that nothing reaches, since its processor refuses pictures.
"""

from collections.abc import Collection
from pathlib import Path

import torch

from onevision.accelerate.empty import without_memory
from onevision.anyres import SingleCrop, VideoRule
from onevision.checkpoint.contents import CheckpointContents, read_contents
from onevision.checkpoint.files import read_json
from onevision.checkpoint.load import CheckpointInfo, inspect
from onevision.checkpoint.matching import match_tensors
from onevision.checkpoint.names import ALONE
from onevision.checkpoint.quantised import refuse_quantised
from onevision.checkpoint.read_sizes import ForeignCheckpoint, read_language
from onevision.config import InputConfig, ModelConfig, Template, VisionConfig
from onevision.errors import CheckpointError, ConfigError, InputError
from onevision.inputs.templates import HEADER
from onevision.inputs.tokenizer import IM_START
from onevision.model.llava import LlavaNetwork

# The classes of language models in transformers, all of whose tensors are the language model's.
CLASSES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
# Pixels along the side of the only crop and patch.
SIDE = 14


def is_language_model(directory: Path) -> bool:
    """Whether a directory holds a language model of transformers, and no more."""
    path = directory / "config.json"
    if not path.is_file():
        return False
    classes = read_json(path).get("architectures")
    return isinstance(classes, list) and len(classes) == 1 and classes[0] in CLASSES


def inspect_any(
    directory: Path, *, adapter: Path | None, verify: bool, devices: int
) -> CheckpointInfo:
    """Reads a checkpoint as `inspect` does, or a language model, which has one device.

    Raises CheckpointError, InputError.
    """
    if adapter is not None or not is_language_model(directory):
        return inspect(directory, adapter=adapter, verify=verify)
    if devices != 1:
        raise InputError(f"devices is {devices}, but a language model alone runs on one; give 1")
    return inspect_language_model(directory)


def has_encoder(info: CheckpointInfo) -> bool:
    """Whether a checkpoint has a vision encoder."""
    return info.names is not ALONE


def inspect_language_model(directory: Path) -> CheckpointInfo:
    """Reads config and headers of a language model. Raises CheckpointError."""
    contents = read_contents(directory)
    refuse_quantised(contents.values, contents.tensors, where=str(directory))
    try:
        config = _config(ForeignCheckpoint(contents=contents, names=ALONE), contents)
    except (ConfigError, CheckpointError, TypeError, ValueError) as error:
        raise CheckpointError(f"{directory}: {error}") from error
    tensors = match_tensors(config, contents, ALONE, where=str(directory), part="language_model.")
    return CheckpointInfo(
        directory=directory, names=ALONE, config=config, tensors=tensors, texts=directory,
        scheme=None,
    )  # fmt: skip


def start_network(
    info: CheckpointInfo, *, device: torch.device, dtype: torch.dtype
) -> LlavaNetwork:
    """Returns a network without memory, to be filled; without an encoder, that is zeros."""
    with without_memory():
        network = LlavaNetwork(info.config)
    if not has_encoder(info):
        for part in (network.vision_encoder, network.projector):
            part.to_empty(device=device).to(dtype)
            for parameter in part.parameters():
                torch.nn.init.zeros_(parameter)
    return network


def _config(source: ForeignCheckpoint, contents: CheckpointContents) -> ModelConfig:
    language = read_language(source)
    one = SingleCrop(crop_size=SIDE, patch_size=SIDE)
    return ModelConfig(
        vision=VisionConfig(
            hidden_size=SIDE, intermediate_size=SIDE, num_layers=1, num_heads=1, image_size=SIDE
        ),
        language=language,
        inputs=InputConfig(
            image=one,
            multi_image=one,
            video=VideoRule(crop_size=SIDE, patch_size=SIDE),
            template=_template(source, contents.added_tokens),
            image_token_id=0,
        ),
        image_newline=False,
    )


def _template(source: ForeignCheckpoint, controls: Collection[str]) -> Template:
    """Returns the chat format by its control tokens."""
    if IM_START in controls:
        return "qwen_1_5"
    if HEADER in controls:
        return "llava_llama_3"
    if source.kind == "mistral":
        return "mistral_instruct"
    raise CheckpointError(
        "its chat format is unknown: the tokenizer has neither <|im_start|> nor "
        "<|start_header_id|>; give an instruction-tuned Qwen, LLaMA 3, Mistral or SmolLM2"
    )
