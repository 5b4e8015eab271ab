"""A trainer -> the tensors of its snapshot, and back, on any number of processes."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from onevision.errors import CheckpointError
from onevision.train.saving.draft import Draft, Shard, SnapshotWriter
from onevision.train.saving.place import Place
from onevision.train.sharded.places import cut_columns, own_part, own_shard
from onevision.train.snapshots import SnapshotReader, State, read_state

if TYPE_CHECKING:
    from onevision.train.trainer import Trainer

# AdamW's two, and Muon's one.
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


def save_snapshot(trainer: "Trainer", directory: Place, *, content: State) -> Place:
    """Writes the whole state of a trainer; every process calls it. Raises OSError.

    `content` is written with it: digests of what the run learns from.
    """
    draft, shards = draft_snapshot(trainer, directory, content=content)
    draft.begin()
    draft.write(shards)
    return draft.finish()


def draft_snapshot(
    trainer: "Trainer", directory: Place, *, content: State
) -> tuple[Draft, dict[str, Shard]]:
    """Returns a snapshot to be written, and this process's share, which still trains."""
    shards: dict[str, Shard] = {}
    for name, tensor in _tensors(trainer).items():
        shard = own_shard(tensor)
        if shard is not None:
            shards[name] = shard
    processes = trainer.processes
    shards[f"rng/{processes.rank}"] = Shard(rows=torch.get_rng_state())
    if processes.device.type == "cuda":
        shards[f"cuda_rng/{processes.rank}"] = Shard(rows=torch.cuda.get_rng_state())
    draft = Draft(
        directory=directory,
        step=trainer.progress.step,
        state={"progress": asdict(trainer.progress), "content": content},
        writer=SnapshotWriter(
            rank=processes.rank, ranks=processes.count, all_succeeded=processes.all_succeeded
        ),
    )
    return draft, shards


def restore_snapshot(trainer: "Trainer", path: Place) -> None:
    """Restores a trainer's weights, moments and random streams. Raises CheckpointError."""
    reader = SnapshotReader(path)
    tensors = _tensors(trainer)
    saved = {name for name in reader.names() if not name.split("/")[0].endswith("rng")}
    frozen = _frozen(trainer)  # snapshots of older releases hold them too
    if saved - frozen.keys() != tensors.keys():
        odd = min((saved - frozen.keys()) ^ tensors.keys())
        raise CheckpointError(
            f"{path}: {'it lacks' if odd in tensors else 'this run has no'} {odd}; "
            "it is of another model or of other trainable parts"
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            _fill(tensor, name, reader)
    updates = read_state(path)["progress"]["updates"]
    for state in trainer.optimizer.state.values():
        if "step" in state:
            state["step"].fill_(updates)
    rank = dist.get_rank() if dist.is_initialized() else 0
    if f"rng/{rank}" in reader.names():
        torch.set_rng_state(reader.rows(f"rng/{rank}"))
    if f"cuda_rng/{rank}" in reader.names() and torch.cuda.is_available():
        torch.cuda.set_rng_state(reader.rows(f"cuda_rng/{rank}"))


def _tensors(trainer: "Trainer") -> dict[str, Tensor]:
    """Returns the weights and the moments of those that train, by name.

    With adapters, frozen weights are those of the checkpoint that the run began with, and are read
    from it again.
    """
    parameters = dict(trainer.learner.network.named_parameters())
    tensors: dict[str, Tensor] = {f"weight/{name}": p for name, p in parameters.items()}
    tensors |= {f"buffer/{name}": b for name, b in trainer.learner.network.named_buffers()}
    for name in _frozen(trainer):
        tensors.pop(name)
    for name, parameter in parameters.items():
        state = trainer.optimizer.state.get(parameter, {})
        tensors |= {f"{kind}/{name}": state[kind] for kind in MOMENTS if kind in state}
    return tensors


def _frozen(trainer: "Trainer") -> dict[str, Tensor]:
    """Returns what a run with adapters leaves as its start has it: int8 bases too, by name."""
    if trainer.options.lora is None:
        return {}
    network = trainer.learner.network
    tensors: dict[str, Tensor] = {
        f"weight/{name}": p for name, p in network.named_parameters() if not p.requires_grad
    }
    return tensors | {f"buffer/{name}": b for name, b in network.named_buffers()}


def _fill(tensor: Tensor, name: str, reader: SnapshotReader) -> None:
    if isinstance(tensor, DTensor):
        part = own_part(tensor)
        rows = reader.rows(name, first=part.first_row, count=len(part.values))
        part.values.copy_(cut_columns(rows, part))
        return
    rows = reader.rows(name)
    if rows.shape != tensor.shape:
        raise CheckpointError(
            f"{reader.snapshot}: {name} has shape {tuple(rows.shape)}, this run needs "
            f"{tuple(tensor.shape)}; it is of another model"
        )
    tensor.copy_(rows)
