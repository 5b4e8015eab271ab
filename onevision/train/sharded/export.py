"""A trained network -> its tensors, whole, on the CPU, adapters merged: one at a time.

The processes of a sharded run gather a tensor together, so all of them ask for the same tensors in
the same order: the first one as it writes them, the others by `follow`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from onevision.checkpoint.files import StoredTensor
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import written_types
from onevision.config import ModelConfig
from onevision.errors import OneVisionError
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.files import adapter_parameters
from onevision.train.lora.frozen import FrozenLinear
from onevision.train.lora.layers import LoraLinear, adapted_layers, merge_weight
from onevision.train.parallel import Processes
from onevision.train.sharded.hollow import network_without_memory
from onevision.train.sharded.places import whole


class TrainedWeights:
    """The tensors of a trained network, by the names they have in a network without adapters."""

    def __init__(
        self, network: LlavaNetwork, config: ModelConfig, processes: Processes,
        *, base: Path | None = None, warn: Callable[[str], object] = str,
    ) -> None:  # fmt: skip
        """`base` is the checkpoint below the adapters of `network`, if it has some."""
        self.network, self.config, self.processes = network, config, processes
        self.base, self.warn = base, warn
        # What is written, without memory.
        self.plain = network_without_memory(config)
        self.layers = adapted_layers(network)
        self._named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        self._originals: Mapping[str, StoredTensor] | None = None
        self._awaited: deque[str] = deque()

    def follow(self, dtype: torch.dtype | None) -> None:
        """Takes part in gathering what the first process writes; the others call it."""
        if self.processes.divides:
            self._await(dtype)
            self._drain()

    @contextmanager
    def offered(self, dtype: torch.dtype | None) -> Iterator[None]:
        """While it lasts the first process fetches; if it fails, the others do not wait for it."""
        if self.processes.divides:
            self._await(dtype)
        try:
            yield
        finally:
            self._drain()

    def fetch_trained(self, name: str) -> Tensor:
        """Returns a parameter by the name that it has in training."""
        self._expect(f"trained {name}")
        return self._gather(name)

    def fetch(self, name: str) -> Tensor:
        """Returns a tensor of `plain`, adapters merged."""
        self._expect(f"plain {name}")
        module, _, own = name.rpartition(".")
        if module not in self.layers:
            return self._gather(name)
        if own != "weight":
            return self._gather(f"{module}.base.{own}")
        return self._merge(module, self.layers[module])

    def _merge(self, module: str, layer: LoraLinear) -> Tensor:
        a, b = self._gather(f"{module}.lora_a"), self._gather(f"{module}.lora_b")
        magnitude = None if layer.magnitude is None else self._gather(f"{module}.magnitude")
        if isinstance(layer.base, FrozenLinear):
            weight = self._read_original(f"{module}.weight")
            if weight is None:
                weight = layer.base.dequantize().weight.detach().cpu()
        else:
            weight = self._gather(f"{module}.base.weight")
        merged = merge_weight(weight, a, b, scaling=layer.scaling, magnitude=magnitude)
        return merged.to(self.plain.get_parameter(f"{module}.weight").dtype)

    def _read_original(self, name: str) -> Tensor | None:
        """Returns the weight that a base was rounded from; None, with a warning, if gone."""
        assert self.base is not None, "adapters lie on a checkpoint"
        try:
            if self._originals is None:
                self._originals = inspect(self.base).tensors
            return self._originals[name].read() if self._originals else None
        except (OneVisionError, OSError) as error:
            self._originals = {}
            self.warn(
                f"{self.base} cannot be read ({error}); the adapters are merged into the rounded "
                f"weights: merge them with `onevision convert --base "
                f"{self.base}` instead"
            )
            return None

    def _gather(self, name: str) -> Tensor:
        return whole(self._named[name].detach()).cpu()

    def _await(self, dtype: torch.dtype | None) -> None:
        """Notes what will be fetched, in order."""
        trained: Iterable[str] = adapter_parameters(self.network).values() if self.layers else ()
        self._awaited.extend(f"trained {name}" for name in trained)
        types = written_types(dict(self.plain.state_dict()), self.config, dtype=dtype)
        self._awaited.extend(f"plain {name}" for name in types)

    def _expect(self, key: str) -> None:
        if self._awaited:
            expected = self._awaited.popleft()
            assert key == expected, f"{key} is fetched where others gather {expected}"

    def _drain(self) -> None:
        """Gathers what is left, for the other processes, and drops it."""
        while self._awaited:
            kind, _, name = self._awaited[0].partition(" ")
            _ = self.fetch_trained(name) if kind == "trained" else self.fetch(name)
