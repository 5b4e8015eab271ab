"""A checkpoint -> a network that several devices run, led by this process."""

import shutil
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from onevision.checkpoint.load import CheckpointInfo
from onevision.errors import InputError
from onevision.generate.graphed_decoder import StepTaker
from onevision.generate.kv_cache import KVCache
from onevision.generate.parallel.encoder import LeadingEncoder
from onevision.generate.parallel.leader import Leader, LeadingDecoder, cache_maker
from onevision.generate.parallel.part import Part, load_own
from onevision.generate.parallel.processes import Followers, current_version, new_meeting_place
from onevision.generate.parallel.protocol import PartSpec, join_group
from onevision.generate.parallel.shards import count_parts
from onevision.generate.parallel.steps import LeadingSteps
from onevision.model.convnet import ConvNet
from onevision.model.vision import VisionEncoder


@dataclass(frozen=True, kw_only=True)
class ParallelPart:
    """The first device's part, ready to lead."""

    part: Part
    leader: Leader
    new_kv_cache: Callable[[int], KVCache]
    new_step_taker: Callable[[], StepTaker]


def load_parallel(
    info: CheckpointInfo,
    *,
    devices: int,
    device: torch.device,
    dtype: torch.dtype,
    adapter: Path | None = None,
    quantize: str | None = None,
    in_memory: bool = False,
    verify: bool = True,
) -> ParallelPart:
    """Loads a checkpoint onto `devices` devices, a process for each; this one is the first.

    "cuda" takes the first `devices` GPUs; on a CPU the processes divide torch's threads. They end
    with this process, or with `Leader.close`. Raises InputError, CheckpointError, EngineError.
    """
    _check(info, devices, device)
    meeting_place = new_meeting_place()
    threads = max(1, torch.get_num_threads() // devices)
    first = PartSpec(
        model=str(info.directory),
        adapter=None if adapter is None else str(adapter),
        dtype=str(dtype).removeprefix("torch."),
        quantize=quantize,
        device=_name(device, 0),
        in_memory=in_memory,
        verify=verify,
        rank=0,
        count=devices,
        num_threads=threads,
        meeting_place=meeting_place,
        version=current_version(),
    )
    followers = Followers([_for_rank(first, device, rank) for rank in range(1, devices)])
    try:
        if device.type == "cpu":
            torch.set_num_threads(threads)
        part = load_own(info, first)
        followers.wait_until_loaded()
        followers.join(
            lambda: join_group(rank=0, count=devices, meeting_place=meeting_place, device=device)
        )
    except BaseException:
        Leader(followers).close()
        raise
    finally:
        shutil.rmtree(Path(meeting_place).parent, ignore_errors=True)
    leader = Leader(followers)
    weakref.finalize(leader, followers.close)
    return _lead(part, leader, device=device)


def _lead(part: Part, leader: Leader, *, device: torch.device) -> ParallelPart:
    """Puts what orders the other devices in the place of the first one's decoder and encoder."""
    network, language = part.network, part.config.language
    decoder, encoder = network.language_model, network.vision_encoder
    leading = LeadingDecoder(decoder, leader, vocab_size=language.vocab_size)
    network.add_module("language_model", leading)
    if isinstance(encoder, VisionEncoder | ConvNet):
        network.add_module("vision_encoder", LeadingEncoder(encoder, leader))
    return ParallelPart(
        part=part,
        leader=leader,
        new_kv_cache=cache_maker(language, leader, dtype=decoder.dtype, device=device),
        new_step_taker=lambda: LeadingSteps(leading),
    )


def _check(info: CheckpointInfo, devices: int, device: torch.device) -> None:
    count_parts(info.config, devices)
    if dist.is_initialized():
        raise InputError(
            "this process belongs to a process group already, perhaps of another model on several "
            "devices; close that one first, or take a process of its own"
        )
    if device.type == "cuda":
        if device.index is not None:
            raise InputError(f"device is {str(device)!r} with {devices} devices; expected 'cuda'")
        if (found := torch.cuda.device_count()) < devices:
            raise InputError(f"devices is {devices}; this machine has {found} GPUs")


def _name(device: torch.device, rank: int) -> str:
    return f"cuda:{rank}" if device.type == "cuda" else str(device)


def _for_rank(first: PartSpec, device: torch.device, rank: int) -> PartSpec:
    values = {field: getattr(first, field) for field in PartSpec.__struct_fields__}
    return PartSpec(**values | {"rank": rank, "device": _name(device, rank)})
