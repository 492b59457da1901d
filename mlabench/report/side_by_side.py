"""The points that several kernels measured: which panel of a figure each belongs to, and its place along the axis."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlabench.report.alike import SETTINGS, SIZES
from mlabench.report.series import Context
from mlabench.report.style import STYLES
from mlabench.units import format_tokens

if TYPE_CHECKING:
    import pandas

POINT = ["batch", "q_len", "kv_len"]
"""Fields that tell the points of one attention apart, in the order along the axis."""

VARIANTS = tuple(dict.fromkeys(style.variant for style in STYLES))

MOST_PANELS = 12


@dataclass(frozen=True, slots=True)
class SharedPoints:
    """Rows whose columns `panel` and `place` are indices into `panels` and `places`, the texts for them.

    A panel is an attention, `axis` says what a place is, and `common` what all points have in common.
    """

    rows: "pandas.DataFrame"
    panels: tuple[str, ...]
    places: tuple[str, ...]
    axis: str
    common: str


def on_several(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """The measured rows of cases that more than one kernel computed."""
    ok = frame[frame["status"] == "ok"]
    return ok[ok.groupby("case_id")["kernel"].transform("nunique") > 1]


def shared_points(frame: "pandas.DataFrame", context: Context) -> SharedPoints:
    """The points of `on_several`, of which there is one at least, in at most `MOST_PANELS` panels spread over all."""
    rows = on_several(frame)
    rows = rows.assign(rank=[VARIANTS.index(variant) for variant in rows["variant"]])
    apart = ["series", "num_q_heads", *_differing(rows)]
    numbers = rows.groupby(["rank", "num_kv_heads", *apart], dropna=False).ngroup()
    drawn = _spread(int(numbers.max()) + 1)
    rows = rows[numbers.isin(drawn)].assign(panel=numbers.map({number: panel for panel, number in enumerate(drawn)}))
    rows = rows.assign(place=rows.groupby(POINT).ngroup())
    axis, lengths = _axis(rows)
    if rows["series"].nunique() == 1:
        apart.remove("series")
    common = [*_common(rows, lengths), f"{context.dtype}{context.of_layer}", context.device_name]
    if len(drawn) <= numbers.max():
        common.append(f"{len(drawn)} of {numbers.max() + 1} attentions")
    return SharedPoints(
        rows,
        tuple(_panel_text(row, apart) for row in _firsts(rows, "panel")),
        tuple(_place_text(row, lengths) for row in _firsts(rows, "place")),
        axis,
        ", ".join(common),
    )


def _differing(rows: "pandas.DataFrame") -> list[str]:
    """Sizes that differ, and settings that do so even at one point of one attention."""
    sizes = [name for name in SIZES if rows[name].nunique() > 1]
    point = rows.groupby(["series", "num_q_heads", *sizes, *POINT], dropna=False)
    return [*sizes, *(name for name in SETTINGS if point[name].nunique().max() > 1)]


def _spread(count: int) -> list[int]:
    """At most `MOST_PANELS` of so many numbers from 0, evenly, with both ends."""
    if count <= MOST_PANELS:
        return list(range(count))
    return [number * (count - 1) // (MOST_PANELS - 1) for number in range(MOST_PANELS)]


def _axis(rows: "pandas.DataFrame") -> tuple[str, list[str]]:
    """What a place on the axis is, and the fields that it names beside the batch."""
    if rows["phase"].iloc[0] == "prefill" and (rows["q_len"] == rows["kv_len"]).all():
        return "prompts x tokens", ["kv_len"]
    if rows["q_len"].nunique() > 1:
        lengths = ["q_len"] if rows["kv_len"].nunique() == 1 else ["q_len", "kv_len"]
    else:
        lengths = ["kv_len"]
    return f"batch x {' of '.join(lengths)}", lengths


def _common(rows: "pandas.DataFrame", lengths: list[str]) -> list[str]:
    """The series, the phase and the length that no text of a panel or place tells."""
    row: Any = rows.iloc[0]
    texts = [row["series"]] if rows["series"].nunique() == 1 else []
    if row["phase"] == "prefill":
        texts.append("prefill")
    if lengths == ["q_len"]:
        texts.append(f"kv_len {format_tokens(row['kv_len'])}")
    elif lengths == ["kv_len"] and (rows["q_len"] != rows["kv_len"]).any() and row["q_len"] != 1:
        texts.append(f"q_len {format_tokens(row['q_len'])}")
    return texts


def _firsts(rows: "pandas.DataFrame", column: str) -> list[Any]:
    """The first row of each value of a column, in their order; what it lacks is None."""
    firsts = rows.sort_values(column, kind="stable").drop_duplicates(column).astype(object)
    return firsts.where(firsts.notna(), None).to_dict("records")


def _panel_text(row: Any, fields: list[str]) -> str:
    texts = {"series": "{}", "num_q_heads": "{} heads"}
    return ", ".join(texts.get(name, f"{name} {{}}").format(row[name]) for name in fields if row[name] is not None)


def _place_text(row: Any, lengths: list[str]) -> str:
    return f"{row['batch']} x {' of '.join(format_tokens(row[name]) for name in lengths)}"
