"""A function that plots on a figure -> an SVG for a page, or a PNG, in one style.

Figures are matplotlib's, an optional extra that is imported on first use. Without it `svg` and
`png` raise InputError; ask `is_installed` first where pictures may be left out.
"""

import html
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING

from onevision.extras import imports_of_extra

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

MISSING = "plots need matplotlib: pip install 'onevision[plots]'"
PNG_DPI = 144
# By the name of a style: the colour on light paper, and the one that a page takes in the dark. Blue
# to grey are eight that people with any colour vision can tell apart (Okabe and Ito, with two greys
# in place of black and yellow, which are lost among words and on white).
COLOURS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "s0": ("#0072b2", "#4fb3f0"),
        "s1": ("#d55e00", "#ff8a3d"),
        "s2": ("#009e73", "#2fd0a2"),
        "s3": ("#cc79a7", "#eaa0c8"),
        "s4": ("#56b4e9", "#9ad6fb"),
        "s5": ("#e69f00", "#ffc44d"),
        "s6": ("#4d4d4d", "#d0d3d8"),
        "s7": ("#9a9a9a", "#8b9099"),
        "alert": ("#c1121f", "#ff6b6b"),
        "caution": ("#a66f00", "#ffd166"),
        "ink": ("#20242c", "#e8eaee"),
        "soft": ("#5f6775", "#a3abb8"),
        "grid": ("#dfe3e8", "#3a3f47"),
        "paper": ("#ffffff", "#15181d"),
    }
)
SERIES = tuple(name for name in COLOURS if re.fullmatch(r"s\d", name))
# Beside its colour, every series has a marker of its own.
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
HINT = "hint: "

Plot = Callable[["Figure"], object]


def is_installed() -> bool:
    """Whether matplotlib is there."""
    return find_spec("matplotlib") is not None


def colour(style: str) -> str:
    """Returns a colour of COLOURS as figures take it."""
    return COLOURS[style][0]


def svg(plot: Plot, *, width: float, height: float, label: str) -> str:
    """Returns an `<svg class="plot">` to put into a page, always the same for the same plot.

    Sizes are in points; `label` names the picture to screen readers. Colours are CSS variables,
    which `style_sheet` defines for light and dark pages. Raises InputError without matplotlib.
    """
    text = _save(plot, "svg", width=width, height=height).decode()
    head = (
        f'<svg class="plot" role="img" aria-label="{html.escape(label)}" '
        f'viewBox="0 0 {width:g} {height:g}">'
    )
    text = re.sub(r"<svg [^>]*>", lambda _: head, text[text.index("<svg ") :], count=1)
    text = re.sub(rf"<g id=([\"']){HINT}(.*?)\1>", r"<g><title>\2</title>", text)
    text = re.sub('<g id="[^"]*">', "<g>", text)  # several pictures on a page use the same ids
    text = re.sub(' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    for name, (light, _) in COLOURS.items():
        text = text.replace(light, f"var(--{name})")
    return re.sub(r"\n\s*", "\n", text)


def png(plot: Plot, *, width: float, height: float) -> bytes:
    """Returns a PNG of the size given in points. Raises InputError without matplotlib."""
    return _save(plot, "png", width=width, height=height)


def style_sheet() -> str:
    """Returns the CSS that pages with plots share, with the colours of light pages and dark ones.

    A page adds the width of its `body`, and what is its own.
    """
    light, dark = (
        "".join(f"--{name}: {pair[place]}; " for name, pair in COLOURS.items()) for place in (0, 1)
    )
    return (
        f":root {{ color-scheme: light dark; --band: #f5f6f8; {light}}} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ --band: #1d2127; {dark}}} }} "
        "body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; "
        "background: var(--paper); color: var(--ink); } "
        "h1 { margin: 0; line-height: 1.2; overflow-wrap: anywhere; } p { margin: .4rem 0; } "
        ".plot { width: 100%; display: block; } "
        ".plot text { font-family: system-ui, sans-serif !important; }"
    )


def add_hint(artist: "Artist", text: str) -> None:
    """Shows `text` where the pointer rests on a mark of an SVG."""
    artist.set_gid(HINT + text)


def heading_height(width: float, *, num_names: int = 0) -> float:
    """Returns the height of a heading, in points, with a legend of so many names."""
    return 56 + 20 * math.ceil(num_names / _names_per_row(width))


def add_heading(
    figure: "Figure", title: str, subtitle: str, *, legend: "Sequence[Artist]" = ()
) -> None:
    """Writes a title, a line below it and a legend above all that a figure shows."""
    width, height = 72 * figure.get_figwidth(), 72 * figure.get_figheight()
    top = 1 - heading_height(width, num_names=len(legend)) / height
    figure.set_layout_engine("constrained", rect=(0, 0, 1, top), h_pad=0.1)
    figure.text(8 / width, 1 - 10 / height, title, fontsize=14, fontweight="bold", va="top")
    figure.text(8 / width, 1 - 32 / height, subtitle, color=colour("soft"), va="top")
    if legend:
        place = figure.legend(
            handles=legend,
            loc="upper left",
            bbox_to_anchor=(5 / width, 1 - 50 / height),
            ncols=_names_per_row(width),
        )
        place.set_in_layout(False)


def _names_per_row(width: float) -> int:
    return max(1, int(width // 145))


def _save(plot: Plot, kind: str, *, width: float, height: float) -> bytes:
    with imports_of_extra("plots", MISSING):
        from matplotlib import rc_context, rcdefaults, rcParams
        from matplotlib.figure import Figure
    file = io.BytesIO()
    # Without these, an SVG has the time in it, and a PNG the version of matplotlib.
    names = ("Date", "Creator", "Format", "Type") if kind == "svg" else ("Software",)
    with rc_context(), warnings.catch_warnings():
        rcdefaults()  # whatever the user's matplotlibrc says
        rcParams.update(_rc())
        rcParams["figure.facecolor"] = "none" if kind == "svg" else colour("paper")
        # Names may be in a script that the font lacks; browsers have other fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        plot(figure)
        figure.savefig(file, format=kind, dpi=PNG_DPI, metadata=dict.fromkeys(names))
    return file.getvalue()


def _rc() -> dict[str, object]:
    """Returns the style, as matplotlib's settings."""
    ink, soft, grid = colour("ink"), colour("soft"), colour("grid")
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": grid,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": soft,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "font.family": "DejaVu Sans",  # comes with matplotlib, so pictures are the same anywhere
        "font.size": 10.5,
        "grid.color": grid,
        "grid.linewidth": 0.8,
        "legend.borderaxespad": 0.2,
        "legend.columnspacing": 1.0,
        "legend.fontsize": 10,
        "legend.handletextpad": 0.5,
        "legend.frameon": False,
        "legend.handlelength": 1.2,
        "lines.linewidth": 1.7,
        "lines.solid_capstyle": "round",
        "savefig.facecolor": "auto",
        "svg.fonttype": "none",
        "svg.hashsalt": "onevision",
        "text.color": ink,
        "text.parse_math": False,  # names may have dollar signs in them
        "xtick.color": grid,
        "xtick.labelcolor": soft,
        "xtick.major.size": 0,
        "ytick.color": grid,
        "ytick.labelcolor": soft,
        "ytick.major.size": 0,
    }
