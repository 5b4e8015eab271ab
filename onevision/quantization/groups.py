"""Network -> its linear layers, in groups that read the same input.

A group is rescaled, rounded or left alone as one: engines fuse queries, keys and values, and gate
and up, and take no product of two kinds. The projector is left alone: it is two small layers, and
vLLM has it in plain numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onevision.errors import ConfigError
from onevision.model.decoder import DecoderBlock
from onevision.model.llava import LlavaNetwork
from onevision.model.vision import VisionBlock, VisionEncoder

HEAD = "language_model.head"
# vLLM 0.32 reads the MLPs of SigLIP in 8 bits only if both their widths are multiples of this.
VLLM_WIDTHS = 64


@dataclass(frozen=True, kw_only=True)
class Source:
    """The layer that makes a group's input, by channel: a norm, or a linear layer.

    Dividing its channels and multiplying the columns of the group's weights changes no output.
    """

    name: str
    # Channels of the source are `blocks` x `size`; each block is read `repeats` times, one after
    # the other (heads of queries that share a head of values).
    blocks: int = 1
    repeats: int = 1

    def narrow(self, scale: Tensor) -> Tensor:
        """Returns one scale per channel of the source: the largest of those who read it."""
        return scale.unflatten(0, (self.blocks, self.repeats, -1)).amax(1).flatten()

    def widen(self, scale: Tensor) -> Tensor:
        """Returns the scale of each input of the group, from those of the source's channels."""
        parts = scale.unflatten(0, (self.blocks, 1, -1))
        return parts.expand(-1, self.repeats, -1).flatten()


@dataclass(frozen=True, kw_only=True)
class Group:
    """Linear layers that read the same input."""

    layers: tuple[str, ...]
    # None if nothing before it can be rescaled without changing the output: a GELU, for one.
    source: Source | None
    # Whether it is of the vision encoder, the head, or the last block of the language model.
    is_vision: bool = False
    is_head: bool = False
    is_last_block: bool = False


def list_groups(network: LlavaNetwork) -> list[Group]:
    """Returns the groups of a plain network, in the order in which they run.

    Raises ConfigError for a vision encoder that is neither SigLIP nor CLIP.
    """
    vision, language = network.vision_encoder, network.language_model
    if not isinstance(vision, VisionEncoder):
        raise ConfigError(
            f"its vision encoder is a {type(vision).__name__}, which has no layout for quantised "
            "files; quantise a model whose vision encoder is SigLIP or CLIP"
        )
    groups: list[Group] = []
    for index in range(vision.num_layers):  # the others are kept for conversion alone
        block = vision.blocks[index]
        assert isinstance(block, VisionBlock)
        groups += _vision_groups(f"vision_encoder.blocks.{index}")
    last = len(language.blocks) - 1
    for index, block in enumerate(language.blocks):
        assert isinstance(block, DecoderBlock)
        attention = block.attention
        groups += _language_groups(
            f"language_model.blocks.{index}",
            num_groups=attention.num_groups,
            repeats=attention.num_heads // attention.num_groups,
            is_last=index == last,
        )
    final = Source(name="language_model.norm")
    return [*groups, Group(layers=(HEAD,), source=final, is_head=True)]


def is_beyond_vllm(network: LlavaNetwork, group: Group) -> bool:
    """Whether vLLM refuses a file in which the layers of a group have 8 bits."""
    vision = network.vision_encoder
    is_clip = isinstance(vision, VisionEncoder) and vision.first_patch > 0
    if is_clip or not (group.is_vision and ".mlp." in group.layers[0]):
        return False
    layer = linear_layer(network, group.layers[0])
    return bool(layer.in_features % VLLM_WIDTHS or layer.out_features % VLLM_WIDTHS)


def linear_layer(network: nn.Module, name: str) -> nn.Linear:
    """Returns a plain linear layer by its name."""
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def weights_of(network: nn.Module, group: Group) -> Tensor:
    """Returns the weights of a group in fp32, one layer below the other [N, K]."""
    layers = [linear_layer(network, name).weight.detach().float() for name in group.layers]
    return torch.cat(layers)


def _vision_groups(block: str) -> list[Group]:
    attention = f"{block}.attention"
    parts = (
        (
            (f"{attention}.query", f"{attention}.key", f"{attention}.value"),
            Source(name=f"{block}.attention_norm"),
        ),
        ((f"{attention}.output",), Source(name=f"{attention}.value")),
        ((f"{block}.mlp.up",), Source(name=f"{block}.mlp_norm")),
        ((f"{block}.mlp.down",), None),
    )
    return [Group(layers=names, source=source, is_vision=True) for names, source in parts]


def _language_groups(block: str, *, num_groups: int, repeats: int, is_last: bool) -> list[Group]:
    attention, mlp = f"{block}.attention", f"{block}.mlp"
    parts = (
        (
            (f"{attention}.query", f"{attention}.key", f"{attention}.value"),
            Source(name=f"{block}.attention_norm"),
        ),
        (
            (f"{attention}.output",),
            Source(name=f"{attention}.value", blocks=num_groups, repeats=repeats),
        ),
        ((f"{mlp}.gate", f"{mlp}.up"), Source(name=f"{block}.mlp_norm")),
        # SwiGLU multiplies the output of `up`, so its channels can be rescaled.
        ((f"{mlp}.down",), Source(name=f"{mlp}.up")),
    )
    return [Group(layers=names, source=source, is_last_block=is_last) for names, source in parts]
