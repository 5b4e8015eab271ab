"""The results of benchmarks.inference, company and peers -> docs/performance.png, in one picture.

    python -m benchmarks.performance_plot

Draws how many times as fast as each peer this engine is, exact (bf16) and in int8, from
benchmarks/results/inference-cpu.json and peers-cpu.json. What has not been measured has no bar.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.inference import RESULTS
from onevision import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE = Path(__file__).parents[1] / "docs" / "performance.png"
WIDTH, HEIGHT = 800, 420
KINDS = {"bf16": "s0", "int8": "s1"}
# What is drawn, the start of a phase's name, and the aim of int8.
PHASES = {
    "a picture, 10 crops": ("vision, 10 crops", 2.5),
    "a prompt, 6,585 tokens": ("prefill, 6,585 tokens", 2.8),
    "a token after 16": ("decode at 16", 4.5),
    "a token after 6,600": ("decode at 6.6k", 7.0),
    "16 pictures at once": ("16 at once, A", 3.5),
    "16, shared and words": ("16 at once, B", 9.0),
}
# The names of a peer's cases, and of their phases.
PEERS = {
    f"{peer}, {what}": (name, phase)
    for peer, name in (("vLLM", "vllm"), ("OpenVINO", "openvino"))
    for what, phase in (("new picture", "reading"), ("a token", "writing"))
} | {"vLLM, 16 pictures": ("vllm A", ""), "vLLM, 16 mixed": ("vllm B", "")}

Bars = dict[str, dict[str, float]]


def against_transformers(results: dict[str, Any]) -> Bars:
    """Returns the ratios of each phase by kind of arithmetic."""
    return {
        shown: {
            kind: results[f"{phase}, {kind}"]["ratio"]
            for kind in KINDS
            if f"{phase}, {kind}" in results
        }
        for shown, (phase, _) in PHASES.items()
    }


def against_others(results: dict[str, Any]) -> Bars:
    """Returns the ratios against vLLM and OpenVINO; theirs is in the same arithmetic."""
    bars: Bars = {}
    for shown, (case, phase) in PEERS.items():
        names = {kind: f"{case} {kind}" for kind in KINDS} if phase else {"bf16": case}
        bars[shown] = {
            kind: line["ratio"]
            for kind, name in names.items()
            for line in results.get(name, {}).get("phases", [])
            if line["phase"] == phase or not phase
        }
    return {shown: own for shown, own in bars.items() if own}


def draw(axes: "Axes", title: str, bars: Bars, *, aims: Sequence[float] = ()) -> None:
    """Draws horizontal bars, a pair a phase, and what int8 aims at."""
    most = max([1.0, *aims, *(value for own in bars.values() for value in own.values())])
    for place, own in enumerate(bars.values()):
        offsets = (-0.19, 0.19) if len(own) > 1 else (0, 0)
        for offset, (kind, style) in zip(offsets, KINDS.items(), strict=True):
            if kind in own:
                axes.barh(place + offset, own[kind], 0.34, color=plots.colour(style))
                shown = f"{own[kind]:.2f}" if own[kind] < 2 else f"{own[kind]:.1f}"
                # Within the bar where there is room, so that no mark lies on it.
                fits = own[kind] > 0.1 * most
                axes.text(
                    own[kind], place + offset, f" {shown} ", va="center", fontsize=9,
                    ha="right" if fits else "left", color=plots.colour("paper" if fits else "ink"),
                )  # fmt: skip
    for place, aim in enumerate(aims):
        axes.plot([aim, aim], [place, place + 0.38], color=plots.colour("ink"), lw=2)
    axes.axvline(1, color=plots.colour("soft"), lw=1)
    axes.set_yticks(range(len(bars)), bars)
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.05 * most)
    axes.set_title(title)


def main() -> None:
    """Draws the picture."""
    own, others = (
        json.loads((RESULTS / f"{name}-cpu.json").read_text()) for name in ("inference", "peers")
    )

    def plot(figure: "Figure") -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        legend = [
            Patch(color=plots.colour("s0"), label="bf16 (exact)"),
            Patch(color=plots.colour("s1"), label="int8"),
            Line2D([], [], color=plots.colour("ink"), lw=2, label="aim of int8"),
        ]
        subtitle = (
            "times as fast as each peer, in bf16 on the left, in the same arithmetic on the right"
        )
        plots.add_heading(figure, "Speed on two cores", subtitle, legend=legend)
        left, right = figure.subplots(1, 2)
        aims = [aim for _, aim in PHASES.values()]
        draw(left, "0.5B: transformers", against_transformers(own), aims=aims)
        draw(right, "0.5B: vLLM; LLaVA, 0.3B: OpenVINO", against_others(others))

    PICTURE.write_bytes(plots.png(plot, width=WIDTH, height=HEIGHT))
    print(PICTURE)


if __name__ == "__main__":
    main()
