"""Kernels side by side: the time of each over the roofline's least time, where cases were measured on several."""

from dataclasses import dataclass, replace
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from mlabench.report.figures.labels import Label
from mlabench.report.series import Context, spread
from mlabench.report.style import CEILING_COLOUR, DPI, log_ticks, new_figure
from mlabench.units import format_latency, format_ratio, format_tokens

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PIXELS = 1600
MOST_TICKS = 16
LABEL_LINE = 0.06
"""Least distance of two labels beside the last panel, as a share of its height."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a kernel is called in the figure, by its own name without a label, and its marker; the suite's own are not
    `peer`."""

    label: str
    colour: str
    marker: str
    peer: bool = True


LOOKS = {
    "chosen": Look("", "#D55E00", "D", peer=False),
    "gluon": Look("Gluon", "#E69F00", "h", peer=False),
    "triton": Look("Triton", "#56B4E9", "p", peer=False),
    "torch": Look("torch", "#555555", "*", peer=False),
    "flash_mla": Look("FlashMLA", "#0072B2", "o"),
    "flash_attn_3": Look("FlashAttention-3", "#CC79A7", "s"),
    "flashinfer_fa3": Look("FlashInfer fa3", "#009E73", "^"),
    "flashinfer_fa2": Look("FlashInfer fa2", "#56B4E9", "v"),
    "flashinfer": Look("FlashInfer", "#009E73", "<"),
    "vllm_triton": Look("vLLM Triton", "#000000", "X"),
    "sglang_triton": Look("SGLang Triton", "#E69F00", "P"),
    "torch_flash": Look("SDPA flash", "#0072B2", ">"),
    "torch_cudnn": Look("SDPA cuDNN", "#000000", "d"),
}
"""By backend; the first of them that was measured is drawn large, and the others are held against it."""

SPARE = (("#555555", "8"), ("#000000", "H"), ("#0072B2", "X"), ("#CC79A7", "P"))
"""For kernels of other backends, and for a second one of a backend."""


def has_several(frame: "pandas.DataFrame") -> bool:
    """Whether any case was measured on more than one kernel."""
    return not _on_several(frame).empty


def draw(frame: "pandas.DataFrame", context: Context) -> "Figure":
    """A panel for each number of heads, a place on the x axis for each batch and length, a marker for each kernel."""
    rows = _on_several(frame)
    rows = rows[rows["series"] == rows["series"].value_counts().index[0]]
    heads = spread(tuple(sorted(set(rows["num_q_heads"]))))
    rows = rows[rows["num_q_heads"].isin(heads)]
    looks = looks_of(rows)
    has_floor = bool(rows["floor_us"].notna().all())
    rows = rows.assign(height=rows["latency_us"] / (rows["floor_us"] if has_floor else 1.0))
    rows = rows.assign(place=list(zip(rows["batch"], rows[context.length], strict=True)))
    places = sorted(set(rows["place"]))
    figure = new_figure(5.6, WIDTH_PIXELS / DPI)
    panels = figure.subplots(1, len(heads), sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, heads, strict=True):
        _draw_panel(axes, rows[rows["num_q_heads"] == count], looks, places)
        axes.set_title(f"{count} heads")
        axes.set_xlabel(f"batch x {context.length}")
    _set_y(panels[0], rows, has_floor=has_floor)
    _label(panels[-1], rows[rows["num_q_heads"] == heads[-1]], looks)
    setting = f"{rows['series'].iloc[0]}{context.queries}, {context.dtype}, {context.device_name}"
    figure.suptitle(f"{finding(rows, looks)}\n{setting}", fontsize=12)
    return figure


def looks_of(rows: "pandas.DataFrame") -> dict[str, Look]:
    """The look of each kernel by its name, the one that the others are held against first."""
    names = dict(zip(rows["kernel"], rows["backend"], strict=True))
    known = {backend: kernel for kernel, backend in sorted(names.items(), reverse=True)}
    found = {known[backend]: look for backend, look in LOOKS.items() if backend in known}
    looks = {kernel: replace(look, label=look.label or kernel) for kernel, look in found.items()}
    others = sorted(set(names) - set(looks))
    return looks | {kernel: Look(kernel, *SPARE[place % len(SPARE)]) for place, kernel in enumerate(others)}


def finding(rows: "pandas.DataFrame", looks: dict[str, Look]) -> str:
    """At how many points the first kernel is the fastest, and how long the best of its peers, or the others, takes."""
    first, *others = looks
    peers = [kernel for kernel in others if looks[kernel].peer]
    table = rows.pivot_table(index="case_id", columns="kernel", values="latency_us")
    ratios = (table[peers or others].min(axis=1) / table[first]).dropna()
    if ratios.empty:
        return f"{looks[first].label} beside others"
    whom = "peer" if peers else "other"
    return (
        f"{looks[first].label} is faster than every {whom} at {(ratios > 1).sum()} of {len(ratios)} points; the best "
        f"{whom} takes {format_ratio(geometric_mean(ratios))} its time in geometric mean"
    )


def _on_several(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    ok = frame[frame["status"] == "ok"]
    return ok[ok.groupby("case_id")["kernel"].transform("nunique") > 1]


def _draw_panel(axes: "Axes", rows: "pandas.DataFrame", looks: dict[str, Look], places: list[tuple[int, int]]) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator

    for number, (kernel, look) in enumerate(looks.items()):
        points = rows[rows["kernel"] == kernel]
        # Side by side, in front of the first, so that equal times do not hide one another.
        aside = 0.0 if number == 0 else 0.7 * ((number - 0.5) / (len(looks) - 1) - 0.5)
        x = [places.index(place) + aside for place in points["place"]]
        axes.plot(x, points["height"].to_numpy(dtype=float), **_marker(look, is_first=number == 0))
    every = -(-len(places) // MOST_TICKS)
    axes.xaxis.set_major_locator(FixedLocator(range(0, len(places), every)))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{b} x {format_tokens(n)}" for b, n in places[::every]]))
    axes.tick_params(axis="x", rotation=90, labelsize=10)
    axes.set_xlim(-0.7, len(places) - 0.3)


def _marker(look: Look, *, is_first: bool) -> dict[str, Any]:
    return {
        "color": look.colour,
        "marker": look.marker,
        "linestyle": "none",
        "markersize": 11 if is_first else 6,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "zorder": 3 if is_first else 4,
        "label": look.label,
    }


def _set_y(axes: "Axes", rows: "pandas.DataFrame", *, has_floor: bool) -> None:
    low, high = float(rows["height"].min()), float(rows["height"].max())
    axes.set_yscale("log")
    if has_floor:
        for panel in axes.figure.axes:
            panel.axhline(1, color=CEILING_COLOUR, linewidth=1.6)
        axes.annotate("floor", (0, 1), xytext=(3, -12), textcoords="offset points", fontsize=10, color=CEILING_COLOUR)
        low = min(low, 1.0)
    axes.set_ylim(low / 1.35, high * 1.25)
    log_ticks(axes.yaxis, format_ratio if has_floor else format_latency, low, high)
    axes.set_ylabel("time over the roofline's least time" if has_floor else "time of a call")


def _label(axes: "Axes", rows: "pandas.DataFrame", looks: dict[str, Look]) -> None:
    """The kernels' names beside the last panel, each as near to its last point as the others leave room."""
    last = rows.sort_values("place").groupby("kernel")["height"].last().to_dict()
    at = {
        kernel: float(axes.transAxes.inverted().transform(axes.transData.transform((0, y)))[1])
        for kernel, y in last.items()
    }
    order = sorted(looks, key=lambda kernel: at.get(kernel, -1.0))
    heights = _apart([at.get(kernel, 0.0) for kernel in order])
    for kernel, height in zip(order, heights, strict=True):
        look = looks[kernel]
        axes.plot(
            1.05, height, transform=axes.transAxes, clip_on=False, **_marker(look, is_first=kernel == next(iter(looks)))
        )
        axes.annotate(
            look.label,
            (1.05, height),
            xycoords="axes fraction",
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
            color=Label(0, 0, look.label, look.colour).dark_colour,
            annotation_clip=False,
            weight="bold" if kernel == next(iter(looks)) else "normal",
        )


def _apart(values: list[float]) -> list[float]:
    """The sorted values, moved up where they are nearer than `LABEL_LINE`, and all down where the last is above 1."""
    moved: list[float] = []
    for value in values:
        moved.append(max(value, moved[-1] + LABEL_LINE) if moved else value)
    return [value - max(0.0, moved[-1] - 1) for value in moved]
