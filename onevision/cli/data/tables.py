"""What a check found -> the tables and lines that are printed."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onevision.plural import counted

if TYPE_CHECKING:
    from rich.table import Table

    from onevision.data.check import Finding, SourceSummary
    from onevision.data.entries import DatasetEntry
    from onevision.data.mixture import UnopenedDataset


def print_summaries(summaries: "list[SourceSummary]", found: "list[Finding]") -> None:
    """Prints one row for each data set; then what is cut and what is not read."""
    if not summaries:
        return
    table = _make_table("data set", ("rows", "usable", "to fix", "tokens", "median", "longest"))
    faults = Counter(finding.source for finding in found if finding.must_fix)
    for one in summaries:
        kinds = (f"{n:,} {kind.removesuffix('_image')}" for kind, n in one.modalities.items())
        table.add_row(
            f"{one.name}\n  {', '.join(kinds)}".rstrip(),
            f"{one.num_rows:,}",
            f"{one.num_usable:,}",
            f"{faults[one.name]:,}",
            f"{one.num_tokens:,}",
            f"{one.median_length:,}",
            f"{one.longest:,}",
        )
    _print(table)
    for one in summaries:
        for line in _describe_losses(one):
            print(f"{one.name}: {line}")


def print_findings(found: "list[Finding]", *, show: int) -> None:
    """Prints the findings by kind, the first `show` of each."""
    for kind, count in Counter(finding.kind for finding in found).items():
        print(f"{kind}: {count:,}")
        of_kind = [finding for finding in found if finding.kind == kind]
        for finding in of_kind[:show]:
            message = finding.message
            where = f"{finding.source}, row {finding.row}"
            print(f"  {message}" if message.startswith(where) else f"  {where}: {message}")
        if count > show:
            print(f"  ... and {count - show:,} more; --show {count} prints all")


def print_unopened(unopened: "Sequence[UnopenedDataset]", *, num_open: int, mixture: Path) -> None:
    """Prints what is missing, where to get it and where it goes; and what cannot be opened."""
    missing = [one for one in unopened if one.is_missing]
    if missing:
        _print_missing(missing)
        rows = [_count_rows(one.entry) for one in missing]
        known = sum(count for count in rows if count is not None)
        more = f", and {rows.count(None)} sets of unknown size" if None in rows else ""
        withheld = sum(not one.entry.released for one in missing)
        lost = f"; {withheld} of them were not released" if withheld else ""
        print(
            f"missing: {len(missing)} of {counted(num_open + len(unopened), 'data set')}, "
            f"{counted(known, 'row')}{more}{lost}"
        )
        _print_commands(missing)
        _print_advice(mixture)
    for one in unopened:
        if not one.is_missing:
            print(f"cannot be opened: {one.problem}")


def _print_missing(missing: "list[UnopenedDataset]") -> None:
    table = _make_table("missing data set", ("rows used", "of"))
    table.add_column("get it from", overflow="fold")
    table.add_column("its json_path", overflow="fold")
    for one in missing:
        entry = one.entry
        used, whole = _count_rows(entry), entry.published_rows
        about = "~" if entry.rows_rounded else ""
        table.add_row(
            entry.name,
            "?" if used is None else f"{about}{used:,}",
            "?" if whole is None else f"{about}{whole:,}",
            _describe_source(entry),
            entry.json_path or "none; set it",
        )
    _print(table)


def _print_commands(missing: "list[UnopenedDataset]") -> None:
    """Prints a command for each repository that holds missing sets, and those that make some."""
    sources = Counter(one.entry.source for one in missing if one.entry.source is not None)
    for source, count in sources.items():
        name = source.rpartition("/")[2]
        print(f"  {count}: hf download {source} --repo-type dataset --local-dir {name}")
    if any(one.entry.config for one in missing):
        print("  for one configuration alone, add: --include 'CONFIGURATION/*'")
    made = [one.entry.make for one in missing if one.entry.make is not None]
    if made:
        print("or make records like them:")
        print("\n".join(f"  {command}" for command in made))


def _print_advice(mixture: Path) -> None:
    from onevision.data.mixture import published_mixtures

    if mixture.parent == published_mixtures():
        print(f"copy {mixture} to the folder of your data, download there, and check the copy")
    else:
        print(f"download in {mixture.resolve().parent}: every json_path counts from there")
    print("a configuration of a download is found by itself; for other places, set json_path")


def _describe_source(entry: "DatasetEntry") -> str:
    if not entry.released:
        return "not released"
    if entry.source is None:
        return "its source is not published"
    return f"{entry.source}, {entry.config}" if entry.config else entry.source


def _count_rows(entry: "DatasetEntry") -> int | None:
    from onevision.data.entries import count_chosen

    if entry.rows is not None or entry.published_rows is None:
        return entry.rows
    return count_chosen(entry.sampling_strategy, entry.published_rows, name=entry.name)


def _describe_losses(one: "SourceSummary") -> list[str]:
    """Returns lines about what of a data set is cut, and what is not read."""
    lines: list[str] = []
    if one.reductions:
        cut = ", ".join(f"{n:,} with fewer {kind}" for kind, n in one.reductions.items())
        lines.append(f"cut to fit: {cut}; {one.num_cut:,} tokens or more are lost")
    if one.unused:
        fields = ", ".join(f"{name} ({count:,})" for name, count in sorted(one.unused.items()))
        lines.append(f"not read: {fields}")
    return lines


def _make_table(first: str, columns: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print(table: "Table") -> None:
    from rich.console import Console

    Console().print(table)
