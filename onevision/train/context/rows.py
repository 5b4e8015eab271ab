"""What each process of a group has read -> the micro-batches of all of them, on every process.

Every process reads its own share of the samples, as if it were alone with it. Before a step they
deal out what they have read: each gets every micro-batch, with its own share of the crops in
`pixel_values`; the rest of a micro-batch is whole everywhere.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import torch.distributed as dist

from onevision.train.context.division import cut_crops
from onevision.train.feed import MicroBatch
from onevision.train.parallel import Processes

Row = TypeVar("Row", bound=MicroBatch | None)


def share_rows(own: Sequence[Row], processes: Processes) -> list[Row]:
    """Returns what all processes of a group have read, in one order; every process calls it."""
    if processes.group is None:
        return list(own)
    counts = [0] * processes.partners
    dist.all_gather_object(counts, len(own), group=processes.group)
    shared: list[Row] = []
    for reader, count in enumerate(counts):
        for number in range(count):
            is_mine = reader == processes.place
            parts = divide(own[number], processes.partners) if is_mine else None
            got: list[Any] = [None]  # Any: an object as it was sent
            dist.scatter_object_list(got, parts, group=processes.group, group_src=reader)
            shared += got
    return shared


def divide(one: MicroBatch | None, parts: int) -> list[MicroBatch | None]:
    """Returns a micro-batch for each of some processes, which differ in their crops."""
    if one is None:
        return [None] * parts
    batch = one.batch
    cuts = cut_crops(batch.layouts, parts)
    crops = [batch.pixel_values[begin:end] for begin, end in pairwise(cuts)]
    # A slice would be sent with all that it is a slice of.
    return [replace(one, batch=replace(batch, pixel_values=own.clone())) for own in crops]
