"""What is known of every sample before training: exact length, modality, fingerprints, faults.

`planner.make_plan` makes a plan; other processes get it as bytes.
"""

import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from onevision.data.entries import Modality
from onevision.data.fit import Reduction
from onevision.data.mixture import Mixture
from onevision.data.order import Order

FaultKind = Literal["record", "media", "too long"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
# What training needs of a plan; the rest is for checks.
TRAINING_COLUMNS = ("rows", "num_tokens", "num_cut", "modality", "reductions", "digests")
COLUMNS = (*TRAINING_COLUMNS, "picture_hashes", "picture_digests", "picture_rows")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a sample cannot be used."""

    row: int
    kind: FaultKind
    message: str


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """What is known of the rows of one data set. The arrays about rows are parallel."""

    rows: NDArray[np.int64]
    num_tokens: NDArray[np.int32]  # after fitting; 0 if the sample is refused
    num_cut: NDArray[np.int32]  # tokens lost to the fitting
    modality: NDArray[np.int8]  # an index into MODALITIES
    reductions: NDArray[np.uint8]  # bit i: REDUCTIONS[i] was needed
    digests: NDArray[np.uint64]  # of the record; equal for equal words and media
    # Of every image, if media were decoded: perceptual hash, digest of the bytes, and its row.
    picture_hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    picture_digests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    picture_rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    faults: tuple[Fault, ...] = ()
    # Fields that hold something and are not read, and in how many records.
    unused: Mapping[str, int] = field(default_factory=dict)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which rows can be learned from."""
        return self.num_tokens > 0

    def remarks_to_array(self) -> NDArray[np.uint8]:
        """Returns faults and unused fields as bytes, to be written beside the columns."""
        remarks = {"faults": [asdict(fault) for fault in self.faults], "unused": dict(self.unused)}
        return np.frombuffer(json.dumps(remarks).encode(), np.uint8)

    def with_remarks(self, content: NDArray[np.uint8]) -> "DatasetPlan":
        """Returns the plan with what `remarks_to_array` wrote."""
        remarks = json.loads(content.tobytes())
        faults = tuple(Fault(**fault) for fault in remarks["faults"])
        return replace(self, faults=faults, unused=remarks["unused"])

    def keep(self, kept: NDArray[np.bool_]) -> "DatasetPlan":
        """Returns the plan in which only rows of `kept` are usable."""
        return replace(self, num_tokens=np.where(kept, self.num_tokens, 0))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plans of all data sets of a mixture."""

    datasets: tuple[DatasetPlan, ...]

    def restrict(self, mixture: Mixture) -> Mixture:
        """Returns the mixture without the rows that cannot be used."""
        pairs = zip(mixture.datasets, self.datasets, strict=True)
        usable = tuple(replace(one, rows=plan.rows[plan.usable]) for one, plan in pairs)
        return replace(mixture, datasets=usable)

    def lengths(self, order: Order) -> NDArray[np.int64]:
        """Returns the planned tokens of every sample of an order."""
        lengths = np.zeros(len(order), dtype=np.int64)
        for number, plan in enumerate(self.datasets):
            mine = order.datasets == number
            by_row = np.argsort(plan.rows)
            where = by_row[np.searchsorted(plan.rows, order.rows[mine], sorter=by_row)]
            lengths[mine] = plan.num_tokens[where]
        return lengths

    def to_bytes(self) -> bytes:
        """Returns what training needs, faults included, without pictures."""
        file = io.BytesIO()
        arrays = {
            f"{number}/{name}": vars(plan)[name]
            for number, plan in enumerate(self.datasets)
            for name in TRAINING_COLUMNS
        }
        arrays |= {
            f"{number}/remarks": one.remarks_to_array() for number, one in enumerate(self.datasets)
        }
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Plan":
        """Reads what `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as arrays:
            count = sum(name.endswith("/rows") for name in arrays)
            return cls(
                datasets=tuple(
                    DatasetPlan(
                        **{name: arrays[f"{n}/{name}"] for name in TRAINING_COLUMNS}
                    ).with_remarks(arrays[f"{n}/remarks"])
                    for n in range(count)
                )
            )


def concatenate(plans: list[DatasetPlan]) -> DatasetPlan:
    """Joins the plans of successive rows of one data set."""
    arrays = {name: np.concatenate([vars(plan)[name] for plan in plans]) for name in COLUMNS}
    return DatasetPlan(
        **arrays,
        faults=tuple(fault for plan in plans for fault in plan.faults),
        unused=dict(sum((Counter(plan.unused) for plan in plans), Counter[str]())),
    )
