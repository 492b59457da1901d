"""Which rows of a run a figure draws: one machine, method, dtype, phase and scope, and lines that may be compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlabench.machine.ceilings import Ceilings
from mlabench.records.frame import frame, joined
from mlabench.records.store import Run
from mlabench.report.alike import SIZES, most_common, of_one_setting
from mlabench.report.style import STYLES, Style
from mlabench.units import format_tokens

if TYPE_CHECKING:
    import pandas

SHAPE = ["kv_len", "q_len", "batch"]
"""Fields in which two variants are compared; the largest call has the most of the first, then of the next."""

APART = ("method", "dtype", "phase", "scope", "hidden_size")
"""Fields that are one value within a view; layers of two widths do other work outside of their cores."""

MOST_PANELS = 3

MOST_MODELS = 2
"""Named in a title; the others are counted."""


class NothingToShowError(Exception):
    """A figure has no data to draw; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a figure: a variant and form, and how many KV heads a group shares."""

    name: str
    style: Style


@dataclass(frozen=True, slots=True)
class Context:
    """What the rows of a figure have in common, and how its panels are laid out.

    Figures of one head count draw `num_q_heads`. `x` is `kv_len`; where that is one value, `q_len` or else `batch` if
    it has several. `panel` is `kv_len` where `x` is `batch`, and `batch` elsewhere; `panels` are its values that are
    drawn. Figures of a single batch size draw `batch`. `models` are the presets whose shapes are drawn, `own_models`
    those with `num_q_heads`. `q_len` and `kv_len` are None where they differ between points: both do in the prefill of
    whole prompts.
    """

    device_name: str
    dtype: str
    method: str
    cache: str | None
    phase: str
    scope: str
    hidden_size: int | None
    models: tuple[str, ...]
    own_models: tuple[str, ...]
    q_len: int | None
    kv_len: int | None
    ceilings: Ceilings | None
    series: tuple[Series, ...]
    num_q_heads: int
    all_num_q_heads: tuple[int, ...]
    x: str
    panel: str
    panels: tuple[int, ...]
    all_panels: tuple[int, ...]
    batch: int
    left_out: tuple[str, ...]

    def setting(self, every_head_count: bool = False, every_phase: bool = False) -> str:
        """The part of a figure's title that says of what: `128 heads, bfloat16, NVIDIA H200`."""
        heads = _listed(self.all_num_q_heads if every_head_count else (self.num_q_heads,))
        layer = self._of_layer(self.models if every_head_count else self.own_models)
        what = "" if every_phase else f"{self.queries}{layer}"
        return f"{heads} heads{what}, {self.dtype}, {self.device_name}"

    @property
    def queries(self) -> str:
        """What a title adds on the phase and the new tokens: nothing for the decode of one."""
        if self.phase == "decode":
            return "" if self.q_len == 1 else f", q_len {self.q_len}"
        if self.q_len is not None:
            return f", {self.phase} q_len {self.q_len}"
        which = "of whole prompts" if self.kv_len is None else f"at kv_len {format_tokens(self.kv_len)}"
        return f", {self.phase} {which}"

    @property
    def of_layer(self) -> str:
        """What a title adds where whole layers were measured: nothing for the core."""
        return self._of_layer(self.models)

    def _of_layer(self, models: tuple[str, ...]) -> str:
        if self.hidden_size is None:
            return ""
        named, others = models[:MOST_MODELS], len(models) - MOST_MODELS
        told = (*named, f"{others} more") if others > 0 else named
        return f", whole layer of {' and '.join(told) or f'hidden size {self.hidden_size}'}"

    @property
    def length(self) -> str:
        """The field that says how long a point is: `q_len` where that is the x axis, `kv_len` elsewhere."""
        return "q_len" if self.x == "q_len" else "kv_len"

    @property
    def captions(self) -> dict[str, str]:
        """What a caption may name in braces."""
        heads = [str(value) for value in self.all_num_q_heads if value != self.num_q_heads]
        axis = "Batch sizes" if self.panel == "batch" else "Values of kv_len"
        drawn = f"{axis} drawn: {_listed(self.panels)}" + (
            f" of {_listed(self.all_panels)}." if self.all_panels != self.panels else "."
        )
        return {
            "panels": drawn,
            "heads": f"{self.num_q_heads} query heads" + (f" (also measured: {', '.join(heads)})" if heads else ""),
            "batch": str(self.batch),
            "length": self.length,
            # In prefill the setting behind it names the phase.
            "latency": "Decode latency" if self.phase == "decode" else "Latency",
        }

    def panel_title(self, value: int) -> str:
        """What a panel holds fixed."""
        return f"batch {value}" if self.panel == "batch" else f"kv_len {format_tokens(value)}"


@dataclass(frozen=True, slots=True)
class View:
    """The rows that one set of figures draws, and their context; `every` has those too that share no line with them."""

    frame: "pandas.DataFrame"
    context: Context
    every: "pandas.DataFrame"

    @property
    def title(self) -> str:
        """Machine, dtype, timing method, state of the cache, and what is new in one line."""
        context = self.context
        cache = f", {context.cache} cache" if context.cache else ""
        queries = ("" if context.phase == "decode" else context.queries) + context.of_layer
        return f"{context.device_name}, {context.dtype}, timing method {context.method}{cache}{queries}"


def make_views(runs: Sequence[Run], tables: "Sequence[pandas.DataFrame] | None" = None) -> tuple[View, ...]:
    """One view for each of `APART` and machine, the one with most measured points first.

    Numbers of two machines, methods, phases or scopes are never drawn together. Where runs of a machine measured the
    same point, the last run's counts. `tables` are the runs' own, for whoever has made them.
    """
    tables = [frame([run]) for run in runs] if tables is None else tables
    machines: dict[Any, list[int]] = {}
    for number, run in enumerate(runs):
        fingerprint = run.manifest.fingerprint
        machine = (fingerprint.device_name, fingerprint.processors, fingerprint.power_limit_w)
        machines.setdefault(machine, []).append(number)
    views = [
        _view(rows, [runs[number] for number in numbers])
        for numbers in machines.values()
        for _, rows in _points([tables[number] for number in numbers]).groupby(list(APART), sort=True, dropna=False)
    ]
    return tuple(sorted(views, key=lambda view: -int((view.frame["status"] == "ok").sum())))


def measured(rows: "pandas.DataFrame") -> "pandas.DataFrame":
    """The fastest checked kernel of each case."""
    ok = rows[rows["status"] == "ok"]
    return ok.loc[ok.groupby("case_id", sort=False)["latency_us"].idxmin()]


def series_of(row: Any) -> str:
    """The name of the series that a row of the table belongs to."""
    if row["variant"] == "mla":
        return f"MLA {row['form']}"
    return f"GQA-{row['num_kv_heads']}" if row["variant"] == "gqa" else str(row["variant"]).upper()


def _points(tables: "Sequence[pandas.DataFrame]") -> "pandas.DataFrame":
    table = joined(tables).drop_duplicates(["case_id", "kernel", "method"], keep="last")
    # Of whole rows most of the time would go into making them.
    named = table[["variant", "form", "num_kv_heads"]].to_dict("records")
    return table.assign(series=[series_of(row) for row in named])


def _view(rows: "pandas.DataFrame", runs: Sequence[Run]) -> View:
    left_out: list[str] = []
    every = rows
    rows = of_one_setting(rows, left_out)
    rows = rows[rows["cache"].isna() | (rows["cache"] == _mode(rows["cache"].dropna()))]
    latent = rows["variant"] == "mla"
    for part in (rows[latent], rows[~latent]):
        if len(part):
            rows = rows.drop(part.index.difference(most_common(part, SIZES, left_out).index))
    series = _pick_series(rows, left_out)
    rows = rows[rows["series"].isin([one.name for one in series])]
    context = _context(rows, runs, series, left_out)
    return View(rows, context, every[every["cache"].isna() | (every["cache"] == context.cache)])


def _context(rows: "pandas.DataFrame", runs: Sequence[Run], series: tuple[Series, ...], left_out: list[str]) -> Context:
    ok = rows[rows["status"] == "ok"] if (rows["status"] == "ok").any() else rows
    heads = _widest(ok, "num_q_heads")
    drawn = ok[ok["num_q_heads"] == heads]
    x = next((name for name in SHAPE if drawn[name].nunique() > 1), "kv_len")
    panel = "kv_len" if x == "batch" else "batch"
    panels = _numbers(drawn[panel])
    first = rows.iloc[0]
    ceilings = [run.manifest.ceilings for run in runs if run.manifest.ceilings]
    return Context(
        device_name=first["device_name"],
        dtype=first["dtype"],
        method=first["method"],
        cache=_mode(rows["cache"].dropna()),
        phase=first["phase"],
        scope=first["scope"],
        hidden_size=_only(rows["hidden_size"].dropna()),
        models=_models(rows),
        own_models=_models(rows[rows["num_q_heads"] == heads]),
        q_len=_only(rows["q_len"]),
        kv_len=_only(rows["kv_len"]),
        ceilings=ceilings[-1] if ceilings else None,
        series=series,
        num_q_heads=heads,
        all_num_q_heads=_numbers(ok["num_q_heads"]),
        x=x,
        panel=panel,
        panels=spread(panels),
        all_panels=panels,
        batch=_widest(drawn, "batch"),
        left_out=tuple(left_out),
    )


def _pick_series(rows: "pandas.DataFrame", left_out: list[str]) -> tuple[Series, ...]:
    """The lines in the legend's order; of many GQA group sizes those with most points."""
    picked: list[Series] = []
    for style in STYLES:
        form = rows["form"].isna() if style.form is None else rows["form"] == style.form
        names = rows[(rows["variant"] == style.variant) & form]["series"].value_counts(sort=True).items()
        ordered = [str(name) for name, _ in sorted(names, key=lambda item: (-item[1], len(str(item[0])), str(item[0])))]
        if len(ordered) > style.place:
            picked.append(Series(ordered[style.place], style))
    missing = sorted(set(rows["series"]) - {one.name for one in picked})
    if missing:
        left_out.append(f"records of {', '.join(missing)}")
    return tuple(picked)


def _models(rows: "pandas.DataFrame") -> tuple[str, ...]:
    return tuple(sorted({name for names in rows["models"] for name in names.split(", ") if name}))


def _widest(ok: "pandas.DataFrame", column: str) -> int:
    """The largest value of the column among those for which most series were measured."""
    return max(_numbers(ok[column]), key=lambda value: (ok[ok[column] == value]["series"].nunique(), value))


def _listed(values: Sequence[int]) -> str:
    return ", ".join(format_tokens(value) for value in values)


def _numbers(column: "pandas.Series[Any]") -> tuple[int, ...]:
    return tuple(sorted(int(value) for value in column.unique()))


def spread(values: tuple[int, ...]) -> tuple[int, ...]:
    """At most `MOST_PANELS` of the sorted values: the least, the middle one and the greatest."""
    return values if len(values) <= MOST_PANELS else (values[0], values[len(values) // 2], values[-1])


def _only(column: "pandas.Series[Any]") -> int | None:
    values = _numbers(column)
    return values[0] if len(values) == 1 else None


def _mode(column: "pandas.Series[Any]") -> Any:
    return None if column.empty else column.value_counts().index[0]
