"""Blocks of the language model -> the same, each layer divided among a group (Megatron-LM).

    query, key, value; gate, up   by outputs: whole input, every N-th of the heads or hidden numbers
    output; down                  by inputs: those numbers in, the sum over the group out

A block sums twice: after attention and after the MLP (arXiv 1909.08053, section 3). All else is
whole in every process. The layers are divided from outside, so model/ knows nothing of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)

from onevision.model.decoder import DecoderBlock, RMSNorm
from onevision.train.lora.layers import LoraLinear

BY_OUTPUTS = ("attention.query", "attention.key", "attention.value", "mlp.gate", "mlp.up")
BY_INPUTS = ("attention.output", "mlp.down")
HEAD_NORMS = ("attention.query_norm", "attention.key_norm")
WHOLE, LAST_AXIS, HEADS = Replicate(), Shard(-1), Shard(1)
# The axes of an adapted layer's tensors that are divided; B by outputs, A by inputs.
ADAPTED_BY_OUTPUTS = {"weight": 0, "bias": 0, "scale": 0, "lora_b": 0}
ADAPTED_BY_INPUTS = {"weight": 1, "lora_a": 1}


def divide_blocks(blocks: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Divides the layers of decoder blocks among the processes of `mesh` [N], in place.

    Parameters keep their names; weights may be without memory. N must divide the heads and the
    MLP's width.
    """
    for block in blocks:
        assert isinstance(block, DecoderBlock)
        # `None` stands for data, not for seed: nothing is sent, each cuts what it has.
        parallelize_module(block, mesh, _plan(block), src_data_rank=None)


def _plan(block: DecoderBlock) -> dict[str, ParallelStyle]:
    """Returns how each module of a block is divided.

    Inputs become DTensors once for query, key and value, so that their gradients are summed once.
    """
    plan: dict[str, ParallelStyle] = {
        "attention": PrepareModuleInput(
            input_layouts=(WHOLE, None), desired_input_layouts=(WHOLE, None)
        ),
        "mlp": PrepareModuleInput(input_layouts=(WHOLE,), desired_input_layouts=(WHOLE,)),
    }
    for name in BY_OUTPUTS:
        adapted = isinstance(block.get_submodule(name), LoraLinear)
        plan[name] = Together(axes=ADAPTED_BY_OUTPUTS) if adapted else ColwiseParallel()
    for name in BY_INPUTS:
        adapted = isinstance(block.get_submodule(name), LoraLinear)
        by_inputs = Together(axes=ADAPTED_BY_INPUTS, input=LAST_AXIS, output=WHOLE)
        plan[name] = by_inputs if adapted else RowwiseParallel()
    for name in HEAD_NORMS:
        if isinstance(block.get_submodule(name), RMSNorm):  # takes [B, heads, S, K]
            plan[name] = Together(input=HEADS, output=HEADS)
    return plan


@dataclass(kw_only=True)
class Together(ParallelStyle):
    """A module all of whose tensors are DTensors, divided along the axes that are named."""

    axes: Mapping[str, int] = field(default_factory=dict[str, int])
    input: Placement = WHOLE
    output: Placement = LAST_AXIS

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        for part in module.modules():
            for name, tensor in list(part.named_parameters(recurse=False)):
                divided = self._divide(tensor.detach(), name, device_mesh)
                parameter = nn.Parameter(divided, requires_grad=tensor.requires_grad)
                part.register_parameter(name, parameter)
            for name, tensor in list(part.named_buffers(recurse=False)):
                part.register_buffer(name, self._divide(tensor, name, device_mesh))

        # Any: a hook's module, inputs and output.
        def enter(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            x, *others = inputs
            if not isinstance(x, DTensor):
                x = DTensor.from_local(x, device_mesh, [self.input], run_check=False)
            return (x, *others)

        def leave(_module: nn.Module, _inputs: tuple[Any, ...], y: Any) -> Tensor:
            return y.redistribute(placements=[self.output]).to_local()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
        return module

    def _divide(self, tensor: Tensor, name: str, mesh: DeviceMesh) -> DTensor:
        placement = Shard(self.axes[name]) if name in self.axes else WHOLE
        return distribute_tensor(tensor, mesh, [placement], src_data_rank=None)
