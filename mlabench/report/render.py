"""Figures as files: each is drawn once, and saved once for each format."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlabench.report.figures import FIGURES, FigureRow
from mlabench.report.figures import moved as moved_figure
from mlabench.report.moved import Moved
from mlabench.report.series import NothingToShowError, View
from mlabench.report.style import RC

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ONE_LINE_TITLE = 72
"""Characters of a title that fit the width of a figure."""

PNG_COLOURS = 256


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn figure with its files by format; or, where it has nothing to show, no files and the sentence why."""

    row: FigureRow
    heading: str
    caption: str
    files: Mapping[str, bytes]
    missing: str = ""


def draw_pictures(view: View, formats: Iterable[str], figures: Sequence[FigureRow] = FIGURES) -> tuple[Picture, ...]:
    """Every one of the figures that fits a view, as `png` or `svg` files."""
    import matplotlib

    formats = tuple(formats)
    with matplotlib.rc_context(RC):
        return tuple(_picture(row, view, formats) for row in figures if row.fits(row.rows(view)))


def draw_moved(moved: Moved, formats: Iterable[str]) -> dict[str, bytes]:
    """The picture of what moved between two runs, as `png` or `svg` files."""
    import matplotlib

    with matplotlib.rc_context(RC):
        figure = moved_figure.draw(moved)
        drawn, every = len(moved.drawn), len(moved.points)
        which = f"the {drawn} of {every} points that moved farthest" if drawn < every else f"all {every} points"
        figure.suptitle(f"{moved.title}\n{which}", fontsize=12)
        return {kind: SAVERS[kind](figure) for kind in formats}


def _picture(row: FigureRow, view: View, formats: tuple[str, ...]) -> Picture:
    heading = row.heading(view.context)
    try:
        figure = row.draw(row.rows(view), view.context)
    except NothingToShowError as reason:
        return Picture(row, heading, "", {}, f"{row.name_in(view.context)} is left out: {reason}")
    if own_title := figure.get_suptitle():
        heading = own_title.replace("\n", ", ")
    else:
        figure.suptitle(heading if len(heading) <= ONE_LINE_TITLE else heading.replace(", ", "\n", 1), fontsize=12)
    return Picture(row, heading, row.explanation(view.context), {kind: SAVERS[kind](figure) for kind in formats})


def _png(figure: "Figure") -> bytes:
    """A picture of few colours, a third of the size of one with all of them."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", pil_kwargs={"compress_level": 1})
    Image.open(full).convert("RGB").quantize(PNG_COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()


def _svg(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


SAVERS = {"png": _png, "svg": _svg}
"""How a figure becomes a file of each format."""
