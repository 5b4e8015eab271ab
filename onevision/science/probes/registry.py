"""The probes by name, and those that a user chooses."""

from collections.abc import Mapping, Sequence

from onevision.commas import join_items
from onevision.errors import InputError
from onevision.science.probes.item import Level, Probe
from onevision.science.probes.pictures import PICTURE_PROBES
from onevision.science.probes.several import SEVERAL_PROBES
from onevision.science.probes.wording import WORDING_PROBES
from onevision.values import name_closest

PROBES: Mapping[str, Probe] = {
    probe.name: probe for probe in (*PICTURE_PROBES, *SEVERAL_PROBES, *WORDING_PROBES)
}


def choose_probes(names: Sequence[str], *, on_files: bool) -> tuple[Probe, ...]:
    """Returns the probes of these names, by default all; `on_files`: those of any picture.

    Raises InputError for an unknown name, and for a probe that existing pictures cannot have.
    """
    possible = {name: one for name, one in PROBES.items() if one.corrupt or not on_files}
    for name in names:
        if name not in PROBES:
            raise InputError(f"--only: no probe {name!r}{name_closest(name, PROBES)}")
        if name not in possible:
            raise InputError(
                f"--only: {name!r} needs drawn worlds; of a benchmark's pictures, choose among "
                f"{join_items(possible)}"
            )
    return tuple(one for name, one in possible.items() if not names or name in names)


def levels_of(probe: Probe, *, on_files: bool) -> tuple[Level, ...]:
    """Returns the levels at which drawn worlds, or pictures that exist already, are asked about."""
    return probe.file_levels if on_files else probe.levels


def reference_of(levels: Sequence[Level]) -> Level:
    """Returns the level that others are compared with: the first that was trained."""
    return next(level for level in levels if level.trained)
