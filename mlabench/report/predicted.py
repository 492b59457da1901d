"""The plot of a prediction: floors, or latencies with their interval, over the axis that was varied most."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from mlabench.errors import UsageError
from mlabench.report.style import RC, STYLES, bottom_legend, log_ticks, new_figure, value_ticks
from mlabench.units import format_latency, format_tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

MOST_LINES = 21
WIDEST_INCHES = 7.0
WIDEST_OF_TWO_INCHES = 3.1
"""What the legend's handles leave of a figure's width to a name, and where two names stand side by side."""

LEGEND_ROW_INCHES = 0.25
DASHES = ("-", "--", ":")
SUFFIXES = (".png", ".svg")


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
    keys = _line_keys(rows, x)
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["floor_us"] is not None:
            lines.setdefault(tuple(row[key] for key in keys), []).append(row)
    if not 1 <= len(lines) <= MOST_LINES:
        raise UsageError(f"--plot would have {len(lines)} lines, and takes 1 to {MOST_LINES}: vary other axes")
    quantity = "latency_us" if all(row.get("latency_us") for row in rows) else "floor_us"
    with rc_context(RC):
        names = {values: _broken(_name(keys, held[0])) for values, held in lines.items()}
        columns = 2 if max(map(_inches, names.values())) <= WIDEST_OF_TWO_INCHES else 1
        broken = sum(name.count("\n") for name in names.values())
        figure = new_figure(4.0 + LEGEND_ROW_INCHES * (-(-len(lines) // columns) + broken))
        axes = figure.subplots()
        looks = _looks(list(lines.values()))
        handles = [
            _draw(axes, held, x, quantity, look | {"label": names[values]})
            for (values, held), look in zip(lines.items(), looks, strict=True)
        ]
        _finish(axes, rows, x, quantity)
        bottom_legend(figure, handles, columns)
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise UsageError(f"cannot write --plot {path}: {error.strerror or error}") from None


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
    return [
        {"color": STYLES[place % count].colour, "marker": style.marker, "linestyle": DASHES[turn % len(DASHES)]}
        for place, (style, turn) in enumerate(zip(own, turns, strict=True))
    ]


def _draw(axes: "Axes", rows: Sequence[Row], x: str, quantity: str, look: dict[str, Any]) -> Any:
    held = sorted(rows, key=lambda row: float(row[x]))
    at = [row[x] for row in held]
    (line,) = axes.plot(at, [row[quantity] for row in held], **look)
    if quantity == "latency_us":
        low, high = ([row[f"latency_us_{end}"] for row in held] for end in ("low", "high"))
        axes.fill_between(at, low, high, color=look["color"], alpha=0.2, linewidth=0)
    return line


def _finish(axes: "Axes", rows: Sequence[Row], x: str, quantity: str) -> None:
    values = [row[quantity] for row in rows if row[quantity] is not None]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    value_ticks(axes.xaxis, [float(row[x]) for row in rows], format_tokens, 10)
    log_ticks(axes.yaxis, format_latency, min(values), max(values))
    axes.set_xlabel(AXES[x])
    shared = [key for key in ("model", "gpu", "phase", "batch", "tp") if key != x and _count(rows, [key]) == 1]
    named = {"batch": "batch ", "tp": "tp "}
    axes.set_title(", ".join(f"{named.get(key, '')}{rows[0][key]}" for key in shared if rows[0][key] is not None))
    axes.set_ylabel("floor of one layer" if quantity == "floor_us" else "latency of one layer, 90% interval")
