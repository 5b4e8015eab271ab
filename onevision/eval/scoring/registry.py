"""A scorer's name in a task file -> the scorer."""

from collections.abc import Mapping
from types import MappingProxyType

from onevision.eval.scoring import text
from onevision.eval.scoring.scorer import Scorer

__all__ = ["SCORERS", "Scorer"]

SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {"exact_match": text.EXACT_MATCH, "heldout": text.HELDOUT}
)
