"""`onevision eval --outside`: asks about media that a model knows nothing of, prints the shares."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from onevision.cli.options import check_output
from onevision.files import write_text
from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.generate.answer import Model


def ask_about_outside(load: "Callable[[], Model]", folder: Path, *, output: Path | None) -> None:
    """Ask about every file of a folder, print what the answers are, and write them."""
    from onevision.cli.evaluation.evaluate import format_share
    from onevision.eval.outside import ask_outside, count_outside, open_outside

    if output is not None:
        check_output(output)
    media = open_outside(folder)
    answers = ask_outside(load(), media)
    for shares in count_outside(answers):
        counts = ", ".join(f"{verdict} {count}" for verdict, count in sorted(shares.counts.items()))
        total = counted(sum(shares.counts.values()), "answer")
        print(f"{shares.medium}: {total}: {counts}")
        print(f"    confident nonsense {format_share(shares.confident_nonsense)}")
    if output is not None:
        lines = (json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in answers)
        write_text(output, "".join(lines))
