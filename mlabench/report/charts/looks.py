"""How charts look: the figures' colours, markers and lines in the words of Bokeh and of SVG, and their dark scheme."""

from collections.abc import Sequence
from typing import Any

from mlabench.report.series import Series
from mlabench.report.style import CEILING_COLOUR, Style

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"

INK = "#40474f"
GRID = "#dde2e7"
CEILING = CEILING_COLOUR
TEXT_ON_CELLS = "#1b1f24"
TIP_SOFT = "#5b646e"
CLEAR = "#00000000"

DARK = {INK: "#c3cad2", GRID: "#343b43", CEILING: "#aab2bb", "#000000": "#f2f4f6", "#0072B2": "#3f9fdb"}
"""What the page's script puts in place of a colour where the reader's scheme is dark; all others are light enough."""

MARKERS = {
    "s": ("square", "M4 4h8v8h-8z"),
    "o": ("circle", "M8 3.5a4.5 4.5 0 1 0 .01 0z"),
    "h": ("hex", "M8 3l4.4 2.5v5L8 13l-4.4-2.5v-5z"),
    "v": ("inverted_triangle", "M3.4 4.2h9.2L8 12.4z"),
    "D": ("diamond", "M8 2.6l4.6 5.4L8 13.4 3.4 8z"),
    "^": ("triangle", "M3.4 11.8h9.2L8 3.6z"),
    "X": ("star", "M8 2.6l1.6 3.7 4 .3-3.1 2.6 1 3.9L8 11l-3.5 2.1 1-3.9-3.1-2.6 4-.3z"),
    "P": ("plus", "M6.4 3h3.2v3.4H13v3.2H9.6V13H6.4V9.6H3V6.4h3.4z"),
}
"""Bokeh's name and an SVG path on 16 x 16 of each of the figures' markers."""

SIZE = 9
SIZES = {"D": 13, "^": 10, "v": 10, "X": 12}
"""Pixels across a marker; the pointed ones look smaller than they are."""

DASHES = {"-": (), "--": (3.7, 1.6), "-.": (6.4, 1.6, 1.0, 1.6), ":": (1.0, 1.65)}
"""Lengths of matplotlib's named lines, in line widths."""


def series_looks(series: Sequence[Series]) -> list[dict[str, Any]]:
    """Name, colour, marker, dashes and width of each series, as the page's script and its legends take them."""
    return [
        {
            "name": one.name,
            "colour": one.style.colour,
            "dark": DARK.get(one.style.colour, one.style.colour),
            "marker": MARKERS[one.style.marker][0],
            "size": SIZES.get(one.style.marker, SIZE),
            "path": MARKERS[one.style.marker][1],
            "dash": dash(one.style),
            "width": one.style.width,
        }
        for one in series
    ]


def dash(style: Style) -> list[float]:
    """Lengths of a line's dashes and gaps in pixels; empty for a solid line."""
    lengths = DASHES[style.line] if isinstance(style.line, str) else style.line[1]
    return [round(length * style.width, 1) for length in lengths]
