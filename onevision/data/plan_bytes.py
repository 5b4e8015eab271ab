"""A plan -> bytes for another process, and back. What only a check needs stays behind."""

import io

import numpy as np

from onevision.data.plan import DatasetPlan, Plan

# What training reads of a plan; the rest comes back empty.
COLUMNS = ("rows", "num_tokens", "modality", "reductions", "digests")


def plan_to_bytes(plan: Plan) -> bytes:
    """Write a plan's arrays, without faults and fingerprints of pictures."""
    file = io.BytesIO()
    arrays = {
        f"{number}/{name}": getattr(part, name)
        for number, part in enumerate(plan.parts)
        for name in COLUMNS
    }
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def plan_from_bytes(content: bytes) -> Plan:
    """Read what `plan_to_bytes` wrote."""
    with np.load(io.BytesIO(content)) as held:
        count = len(held.files) // len(COLUMNS)
        parts = [{name: held[f"{number}/{name}"] for name in COLUMNS} for number in range(count)]
    return Plan(
        parts=tuple(
            DatasetPlan(
                **arrays,
                picture_hashes=np.zeros(0, np.uint64),
                picture_digests=np.zeros(0, np.uint64),
                picture_rows=np.zeros(0, np.int64),
                faults=(),
            )
            for arrays in parts
        )
    )
