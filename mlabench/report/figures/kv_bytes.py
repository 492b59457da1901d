"""Cache bytes of a token in one layer."""

from typing import TYPE_CHECKING

from mlabench.report.series import Context
from mlabench.report.style import new_figure
from mlabench.units import format_bytes, format_exact_bytes, format_ratio

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

BAR_HEIGHT = 0.62


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """One bar a series, from the tensors of its cases; labelled in bytes and as a factor against MHA."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bars = make_bars(frame[frame["num_q_heads"] == context.num_q_heads], context)
    figure = new_figure(height_inches=1.6 + 0.5 * len(bars))
    axes = figure.subplots()
    largest = max(value for _, value, _ in bars)
    mha_bytes = next((value for name, value, _ in bars if name == "MHA"), None)
    for place, (_, value, colour) in enumerate(bars):
        axes.barh(place, value, BAR_HEIGHT, color=colour)
        axes.text(value + largest * 0.012, place, bar_label(value, mha_bytes), va="center")
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, largest * 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
    axes.set_xlabel("KV-cache bytes per token and layer")
    axes.grid(visible=False, axis="y")
    return figure


def make_bars(rows: "pandas.DataFrame", context: Context) -> list[tuple[str, int, str]]:
    """Name, bytes and colour of each bar; forms of MLA that cache the same share one."""
    bars: dict[tuple[str, int], tuple[str, int, str]] = {}
    for series in context.series:
        own = rows[rows["series"] == series.name]["kv_cache_bytes_per_token"]
        if own.empty:
            continue
        key = (series.style.variant, int(own.iloc[0]))
        name = series.name.removeprefix("MLA ")
        bars[key] = (
            (f"{bars[key][0]},\n{name}", *bars[key][1:]) if key in bars else (series.name, key[1], series.style.colour)
        )
    return list(bars.values())


def bar_label(value: int, mha_bytes: int | None) -> str:
    """Every byte, and the factor against MHA where that was measured too."""
    text = format_exact_bytes(value)
    if mha_bytes is None or value == mha_bytes:
        return text
    if value > mha_bytes:
        return f"{text}, {format_ratio(value / mha_bytes)} MHA"
    return f"{text}, {format_ratio(mha_bytes / value)} fewer than MHA"
