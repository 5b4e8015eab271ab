"""What attacks cost -> lines as they come, tables at the end, and a file of JSON.

ONEVISION_FIGURES=build/adversary.json make test-adversary
"""

import json
import os
import platform
import sys
import time
from pathlib import Path

# Columns of each table, with the words over them and how a value is written.
COLUMNS = {
    "counts": {"good": ("good", "d"), "all": ("of", "d")},
    "load": {
        "requests_per_s": ("requests/s", ".1f"), "fails": ("5xx", "d"),
        "server_ms": ("CPU ms/request of the server", ".1f"),
    },
    "attacks": {
        "alone_s": ("alone, s", ".3f"), "beside_burners_s": ("beside burners, s", ".3f"),
        "wait_s": ("attacked, s", ".3f"), "to_alone": ("x alone", ".1f"),
        "to_burners": ("x beside burners", ".1f"), "server_cores": ("server, cores", ".2f"),
        "attackers_cores": ("attackers, cores", ".2f"), "health_s": ("worst /health, s", ".2f"),
        "peak_mib": ("peak, MiB", ".0f"),
    },
    "bodies": {
        "health_s": ("worst /health, s", ".2f"), "peak_mib": ("peak, MiB", ".0f"),
        "status": ("status", "d"),
    },
}  # fmt: skip


class Figures:
    """Rows of figures by table."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, dict[str, float]]] = {}
        self.began, self.load_at_first = time.monotonic(), os.getloadavg()[0]

    def add(self, table: str, name: str, values: dict[str, float]) -> None:
        """Adds a row, and shows it at once, so that a run that is interrupted has some."""
        assert values.keys() == COLUMNS[table].keys()
        self.tables.setdefault(table, {})[name] = values
        told = ", ".join(f"{word} {values[key]:{form}}"
                         for key, (word, form) in COLUMNS[table].items())  # fmt: skip
        sys.stderr.write(f"\n{name}: {told}\n")

    def text(self) -> str:
        """Returns all tables in Markdown."""
        lines = [f"load {self.load_at_first:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} "
                 f"cores, {time.monotonic() - self.began:.0f} s"]  # fmt: skip
        for table, rows in self.tables.items():
            columns = COLUMNS[table]
            lines += [
                "",
                "| " + " | ".join([table, *(word for word, _ in columns.values())]) + " |",
            ]
            lines += ["|---" * (len(columns) + 1) + "|"]
            for name, values in rows.items():
                cells = [f"{values[key]:{form}}" for key, (_, form) in columns.items()]
                lines += ["| " + " | ".join([name, *cells]) + " |"]
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Writes all values, and what they were taken on."""
        machine = {"kernel": platform.release(), "machine": platform.machine(),
                   "cores": os.cpu_count(), "load": [self.load_at_first, os.getloadavg()[0]],
                   "seconds": round(time.monotonic() - self.began, 1)}  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine} | self.tables, indent=1) + "\n")
