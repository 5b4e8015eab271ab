"""Models by the names that requests give them: the base, and its variants with adapters.

Each has an engine of its own, so that no cache of prompts or visual tokens holds those of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from onevision.generate.answer import Model
from onevision.serve.preparing import Preparer
from onevision.serve.schema.problems import ApiError
from onevision.serve.supervisor import Supervisor


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """One model with what answers for it."""

    name: str
    model: Model
    supervisor: Supervisor
    preparer: Preparer
    fingerprint: str


def find_served(served: Sequence[ServedModel], name: str) -> ServedModel:
    """Returns the model that a request names. Raises ApiError."""
    for one in served:
        if one.name == name:
            return one
    names = ", ".join(repr(one.name) for one in served[:8])
    more = f" and {len(served) - 8} more: see /v1/models" if len(served) > 8 else ""
    raise ApiError(
        f"model {name[:80]!r} is not served; ask for {names}{more}",
        status=404, code="model_not_found", param="model",
    )  # fmt: skip
