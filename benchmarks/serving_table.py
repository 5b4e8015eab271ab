"""Levels of benchmarks/serving.py -> one table: ours beside theirs, and how many times as much.

Printed again by: python -m benchmarks.serving_table serving-cpu.json
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Level = dict[str, Any]  # Any: JSON
HEAD = (
    "| | clients | | requests/s | tokens/s | first words p50 / p95 | between words p50 / p95 "
    "| finished | cut off | errors |"
)


def table(levels: Sequence[Level]) -> str:
    """Return a table in Markdown: two rows a level, and a third for the ratios."""
    return "\n".join([HEAD, "|---" * (HEAD.count("|") - 1) + "|", *rows(levels)])


def rows(levels: Sequence[Level]) -> Iterator[str]:
    """Write the rows of every level that both servers have been asked at."""
    by_place: dict[tuple[str, int], dict[str, Level]] = {}
    for level in levels:
        by_place.setdefault((level["workload"], level["clients"]), {})[level["server"]] = level
    for (workload, clients), both in by_place.items():
        for server in ("theirs", "ours"):
            if server in both:
                yield row(workload, clients, both[server])
        if len(both) == 2:
            ratios = (
                ratio(both, "requests_per_second"),
                ratio(both, "tokens_per_second"),
            )
            yield f"| {workload} | {clients} | ratio | {' | '.join(ratios)} | | | | | |"


def row(workload: str, clients: int, level: Level) -> str:
    """Write what one server gave."""
    first, between = level["first_words_seconds"], level["between_words_seconds"]
    errors = ", ".join(f"{count} {name}" for name, count in level["errors"].items()) or "0"
    cells = (
        workload, clients, level["server"],
        f"{level['requests_per_second']:.2f}", f"{level['tokens_per_second']:.0f}",
        f"{first['p50']:.2f} / {first['p95']:.2f} s" if first else "",
        f"{1000 * between['p50']:.0f} / {1000 * between['p95']:.0f} ms" if between else "",
        level["finished"], level["cut_off"], errors,
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def ratio(both: dict[str, Level], name: str) -> str:
    """Return how many times as much ours gave; nothing where theirs finished nothing."""
    theirs = both["theirs"][name]
    return f"{both['ours'][name] / theirs:.1f}" if theirs else "none finished"


def main() -> None:
    """Print the table of a file of results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    print(table(json.loads(parser.parse_args().results.read_text())["levels"]))


if __name__ == "__main__":
    main()
