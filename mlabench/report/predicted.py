"""The plot of a prediction: floors, or latencies with their interval, over the axis that was varied most.

More lines than are read at a glance become panels, one a setting, in which a line is a model and a variant alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from mlabench.errors import UsageError
from mlabench.report.style import RC, SIZE_INCHES, STYLES, Style, bottom_legend, log_ticks, new_figure, value_ticks
from mlabench.units import format_latency, format_tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

AXES = {
    "kv_len": "kv_len (cached tokens)",
    "batch": "batch (requests)",
    "q_len": "q_len (new tokens)",
    "num_q_heads": "num_q_heads",
    "tp": "tp (ranks)",
}
"""What can lie along x, first the one that does where several are varied alike."""

LINE_KEYS = (
    *("gpu", "num_kv_heads", "num_q_heads", "phase", "scope", "dtype", "cache_format"),
    *("batch", "q_len", "kv_len", "kv_len_dist", "page_size", "tp", "dp"),
)
"""What can tell lines of one variant apart."""

OF_A_LINE = ("model", "variant", "form", "num_kv_heads")
"""Which of those stay a line's own where the settings have panels of their own."""

MOST_LINES = 21
MOST_AT_A_GLANCE = 6
"""Lines over which the settings become panels."""

MOST_PANELS, MOST_ABREAST = 16, 4
PANEL_INCHES = (2.75, 2.3)
WIDEST_INCHES = 7.0
WIDEST_OF_TWO_INCHES = 3.1
"""What the legend's handles leave of a figure's width to a name, and where two names stand side by side."""

LEGEND_ROW_INCHES = 0.25
DASHES = ("-", "--", ":")
SUFFIXES = (".png", ".svg")

SPEAKING = ("model", "gpu", "phase", "scope", "dtype", "cache_format", "kv_len_dist")
"""Columns whose values say of what they are."""


def check_plot_path(path: Path) -> None:
    """Refuse, before anything is computed, a file that cannot become a plot. Raises `UsageError`."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--plot {path} ends in no known format: name it {path.stem}.png or {path.stem}.svg")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}")


def plot_rows(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows of a prediction into a file. Raises `UsageError` for more lines than can be told apart."""
    from matplotlib import rc_context

    x = max(AXES, key=lambda name: len({row[name] for row in rows}))
    quantity = "latency_us" if all(row.get("latency_us") for row in rows) else "floor_us"
    known = [row for row in rows if row["floor_us"] is not None]
    keys = _line_keys(rows, x)
    setting = _setting(known, keys)
    own = [key for key in keys if key not in setting]
    lines, panels = _grouped(known, own), _in_order(_grouped(known, setting))
    if not 1 <= len(lines) <= MOST_LINES:
        raise UsageError(f"--plot would have {len(lines)} lines, and takes 1 to {MOST_LINES}: vary other axes")
    with rc_context(RC):
        names = {values: _broken(_name(own, held[0])) for values, held in lines.items()}
        looks = dict(zip(lines, _looks(list(lines.values())), strict=True))
        columns = 2 if max(map(_inches, names.values())) <= WIDEST_OF_TWO_INCHES else 1
        broken = sum(name.count("\n") for name in names.values())
        legend_inches = LEGEND_ROW_INCHES * (-(-len(lines) // columns) + broken)
        figure, places = _places(len(panels), _count(known, setting[-1:]), legend_inches)
        handles: dict[tuple[Any, ...], Any] = {}
        for axes, (values, held) in zip(places, panels.items(), strict=True):
            for line, part in _grouped(held, own).items():
                handles[line] = _draw(axes, part, x, quantity, looks[line] | {"label": names[line]})
            axes.set_title(", ".join(_setting_text(key, value) for key, value in zip(setting, values, strict=True)))
        _finish(figure, places, known, x, quantity)
        bottom_legend(figure, [handles[line] for line in lines], columns)
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise UsageError(f"cannot write --plot {path}: {error.strerror or error}") from None


def _setting(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Which of the columns that tell lines apart have panels of their own, that of most values last; often none."""
    found = sorted((key for key in keys if key not in OF_A_LINE), key=lambda key: _count(rows, [key]))
    in_panels = _count(rows, keys) > MOST_AT_A_GLANCE and 1 < _count(rows, found) <= MOST_PANELS
    return found if in_panels else []


def _grouped(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """The rows by their values of these columns, in the order in which they come."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _in_order(panels: dict[tuple[Any, ...], list[Row]]) -> dict[tuple[Any, ...], list[Row]]:
    """The panels, the last of their columns varied first, so that a row of panels differs in nothing else."""
    orders = [list(dict.fromkeys(values)) for values in zip(*panels, strict=True)]
    places = {values: [order.index(value) for order, value in zip(orders, values, strict=True)] for values in panels}
    return {values: panels[values] for values in sorted(panels, key=places.__getitem__)}


def _places(count: int, abreast: int, legend_inches: float) -> "tuple[Figure, list[Axes]]":
    """A figure with so many panels of common axes, `abreast` of them in a row where there is room."""
    if count == 1:
        figure = new_figure(4.0 + legend_inches)
        return figure, [figure.subplots()]
    width, height = PANEL_INCHES
    # Five are three and two, not four and one.
    columns = -(-abreast // -(-abreast // MOST_ABREAST))
    rows = -(-count // columns)
    figure = new_figure(1.0 + height * rows + legend_inches, max(SIZE_INCHES[0], 0.5 + width * columns))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for spare in grid.flat[count:]:
        spare.set_axis_off()
    return figure, list(grid.flat[:count])


def _line_keys(rows: Sequence[Row], x: str) -> list[str]:
    """The columns that tell the lines apart: models and variants by name, others where no earlier one does."""
    keys = [*(["model"] if _count(rows, ["model"]) > 1 else []), "variant", "form"]
    whole_prompts = all(row["q_len"] == row["kv_len"] for row in rows)
    # The q_len and kv_len of whole prompts grow together, and neither tells one line from another.
    along_x = ("q_len", "kv_len") if whole_prompts and x in ("q_len", "kv_len") else (x,)
    for key in LINE_KEYS:
        if key not in along_x and _count(rows, [*keys, key]) > _count(rows, keys):
            keys.append(key)
    return keys


def _count(rows: Sequence[Row], keys: Sequence[str]) -> int:
    return len({tuple(row[key] for key in keys) for row in rows})


def _name(keys: Sequence[str], row: Row) -> str:
    variant = f"gqa-{row['num_kv_heads']}" if row["variant"] == "gqa" else row["variant"]
    words = [row[key] for key in ("model", "gpu") if key in keys] + [variant, row["form"]]
    others = [key for key in keys if key not in ("model", "gpu", "variant", "form", "num_kv_heads")]
    return ", ".join([" ".join(filter(None, words)), *(f"{key} {row[key]}" for key in others)])


def _broken(name: str) -> str:
    """The name, in several lines where it is wider than the legend."""
    inches = _inches(name)
    return name if inches <= WIDEST_INCHES else fill(name, int(len(name) * WIDEST_INCHES / inches))


def _inches(text: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    # A dollar would begin a formula.
    path = TextPath((0, 0), text.replace("$", "S"), RC["font.size"], FontProperties())
    return float(path.get_extents().width) / 72


def _looks(lines: Sequence[Sequence[Row]]) -> list[dict[str, Any]]:
    """A line's colour, marker and dashes: those of its variant in every figure, where no two lines share one."""
    kinds = [(line[0]["variant"], line[0]["form"]) for line in lines]
    own = [next(style for style in STYLES if (style.variant, style.form) == kind) for kind in kinds]
    if len(set(kinds)) == len(kinds):
        return [{"color": style.colour, "marker": style.marker, "linestyle": style.line} for style in own]
    count = len(STYLES)
    # In grey the dashes tell lines of one variant apart, as long as the colours do not need them.
    turns = [place // count if len(own) > count else kinds[:place].count(kinds[place]) for place in range(len(own))]
    colours = _colours(own) if len(own) <= count else [STYLES[place % count].colour for place in range(len(own))]
    return [
        {"color": colour, "marker": style.marker, "linestyle": DASHES[turn % len(DASHES)]}
        for colour, style, turn in zip(colours, own, turns, strict=True)
    ]


def _colours(own: Sequence[Style]) -> list[str]:
    """Of each variant the first line in its own colour, the others in those that no line's variant has."""
    # Black stands for MHA in every other figure: it is taken last.
    spare = iter([style.colour for style in (*STYLES[1:], *STYLES[:1]) if style not in own])
    return [style.colour if style not in own[:place] else next(spare) for place, style in enumerate(own)]


def _draw(axes: "Axes", rows: Sequence[Row], x: str, quantity: str, look: dict[str, Any]) -> Any:
    held = sorted(rows, key=lambda row: float(row[x]))
    at = [row[x] for row in held]
    (line,) = axes.plot(at, [row[quantity] for row in held], **look)
    if quantity == "latency_us":
        low, high = ([row[f"latency_us_{end}"] for row in held] for end in ("low", "high"))
        axes.fill_between(at, low, high, color=look["color"], alpha=0.2, linewidth=0)
    return line


def _finish(figure: "Figure", places: "Sequence[Axes]", rows: Sequence[Row], x: str, quantity: str) -> None:
    columns = figure.axes[0].get_gridspec().ncols  # type: ignore[union-attr]
    values = [row[quantity] for row in rows if row[quantity] is not None]
    for axes in places:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        value_ticks(axes.xaxis, [float(row[x]) for row in rows], format_tokens, 10 if len(places) == 1 else 5)
        log_ticks(axes.yaxis, format_latency, min(values), max(values))
    shared = [key for key in ("model", "gpu", "phase", "batch", "tp") if key != x and _count(rows, [key]) == 1]
    title = ", ".join(_setting_text(key, rows[0][key]) for key in shared if rows[0][key] is not None)
    y_label = "floor of one layer" if quantity == "floor_us" else "latency of one layer, 90% interval"
    if len(places) == 1:
        places[0].set_xlabel(AXES[x])
        places[0].set_title(title)
        places[0].set_ylabel(y_label)
        return
    for axes in places[-columns:]:
        # With panels below it missing, one is the last of its column and still not in the last row.
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(AXES[x])
    figure.supylabel(y_label, fontsize=RC["axes.labelsize"])
    figure.suptitle(title)


def _setting_text(key: str, value: Any) -> str:
    text = format_tokens(value) if key in ("kv_len", "q_len") else str(value)
    return text if key in SPEAKING else f"{key} {text}"
