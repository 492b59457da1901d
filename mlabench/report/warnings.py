"""What a reader must know before trusting the numbers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mlabench.records.conditions import CROWDED, disturbances
from mlabench.records.store import Run
from mlabench.units import format_percent, format_ratio

if TYPE_CHECKING:
    import pandas


WIDE = 0.05
"""Half-width of the median's interval, over the median, from which on a point is called noisy."""


CLOCK_CHANGE = 0.03
"""Relative change of the SM clock within a point's samples from which on it is told."""


DISTURBANCES = "disturbances"
"""The column that `with_disturbances` adds: text, empty where nothing is known to make a record's time doubtful."""


def with_disturbances(table: "pandas.DataFrame", runs: Sequence[Run]) -> "pandas.DataFrame":
    """The table of all records of the runs, in their order, with what makes each one's numbers doubtful."""
    known = [disturbances(record, run.manifest) for run in runs for record in run.records]
    numbers = (table[name] for name in ("latency_us", "latency_us_low", "latency_us_high", "fraction_of_floor"))
    seen = map(_of_numbers, *numbers)
    texts = ["; ".join((*first, *then)) for first, then in zip(known, seen, strict=True)]
    return table.assign(**{DISTURBANCES: texts})


def warnings(runs: Sequence[Run], table: "pandas.DataFrame") -> tuple[str, ...]:
    """One sentence each; `table` holds all records of the runs."""
    found = [line for run in runs for line in _of_run(run)]
    return (*found, *_of_table(table), *_between(runs, table))


def _of_numbers(middle: float, low: float, high: float, share: float) -> list[str]:
    """What a record's own numbers say against it; those that are not known, NaN, say nothing."""
    half = (high - low) / (2 * middle)
    found = [f"known to ±{format_percent(half)} only"] if half > WIDE else []
    return [*found, f"{format_ratio(share)} as fast as the roofline allows"] if share > 1 else found


def _of_run(run: Run) -> Iterator[str]:
    yield from run.warnings
    provenance = run.manifest.provenance
    if provenance.get("dirty"):
        yield f"{run.name}: the code had uncommitted changes, so its commit alone does not reproduce it."
    state = run.manifest.gpu_state or {}
    if (state.get("compute_processes") or 0) > 1:
        yield f"{run.name}: other processes were on the GPU when the run began."
    if state.get("display_active"):
        yield f"{run.name}: a display is attached to the GPU, which draws on it at times of its own."
    if state.get("mig_enabled"):
        yield f"{run.name}: the GPU is partitioned (MIG); its ceilings are those of the partition."
    if run.manifest.ceilings is None:
        yield f"{run.name}: the machine's ceilings were not measured, so nothing is compared with a roofline."
    if not run.records:
        yield f"{run.name}: the run holds no records."


def _of_table(table: "pandas.DataFrame") -> Iterator[str]:
    ok = table[table["status"] == "ok"]
    if len(ok) < len(table):
        counts = table[table["status"] != "ok"]["status"].value_counts().sort_index()
        words = ", ".join(f"{count} {status}" for status, count in counts.items())
        yield f"{len(table) - len(ok)} of {len(table)} records have no time: {words}. Their reasons stand in the table."
    spread = (ok["latency_us_high"] - ok["latency_us_low"]) / (2 * ok["latency_us"])
    if noisy := int((spread > WIDE).sum()):
        width = format_percent(WIDE)
        yield f"{noisy} of {_points(len(ok))} are noisy: their median's 95% interval is wider than ±{width}."
    if throttled := int(ok["throttled"].fillna(False).sum()):
        yield f"{throttled} of {_points(len(ok))} were measured with the clocks held down (throttled)."
    if drifting := int((ok["sm_clock_change"].astype(float).abs() > CLOCK_CHANGE).sum()):
        change = format_percent(CLOCK_CHANGE)
        yield f"{drifting} of {_points(len(ok))} saw the SM clock change by more than {change} while they were sampled."
    if shared := int((ok["gpu_processes"].astype(float) > 1).sum()):
        yield f"{shared} of {_points(len(ok))} were measured while other processes were on the GPU."
    if crowded := int((ok["others_share"].astype(float) > CROWDED).sum()):
        share = format_percent(CROWDED)
        yield f"{crowded} of {_points(len(ok))} were measured while others had more than {share} of the processors."
    if beyond := int((ok["fraction_of_floor"] > 1).sum()):
        cause = "their inputs were in a cache, or a ceiling was measured too low"
        yield f"{beyond} of {_points(len(ok))} took less than the roofline's least time: {cause}."
    if warm := int((ok["cache"] == "warm").sum()):
        yield f"{warm} of {_points(len(ok))} began with a warm last-level cache, which serving seldom finds."


def _between(runs: Sequence[Run], table: "pandas.DataFrame") -> Iterator[str]:
    digests = {run.manifest.provenance.get("source_digest") for run in runs}
    if len(digests) > 1:
        yield "The runs are of different sources: differences between them may come from the code."
    again = int(table.duplicated(["case_id", "kernel", "method", "device_name"]).sum())
    if again:
        yield f"Several runs hold the same {_points(again)}; the figures draw those of the last run."


def _points(count: int) -> str:
    return f"{count} measured point{'' if count == 1 else 's'}"
