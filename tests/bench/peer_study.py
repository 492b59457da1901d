"""One kernel beside its peers, point by point: times, the best peer's ratio, the floor and what binds; then totals.

`python -m tests.bench.peer_study RUN [--ceilings SWEEP] [--bar RATIO] [--sentences] [--json FILE]` reads a run of
`mlabench ab` and prints Markdown. The floor is the roofline under the ceilings of the run, or else of a sweep on the
same card.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import geometric_mean

from mlabench.report.figures import kernels
from mlabench.report.interleaved import load_measured
from mlabench.report.series import make_views
from mlabench.units import NOT_MEASURED, format_bandwidth, format_flop_rate, format_latency, format_tokens
from tests.bench.markdown import table
from tests.bench.peer_points import BAR, BEST, Ratio, Row, peers_of, study, totals


def main() -> None:
    """Print the points, the totals and what falls short, or the sentences; store the numbers as JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peer_study")
    parser.add_argument("run", type=Path)
    parser.add_argument("--ceilings", type=Path, help="a sweep on the same card, where the run holds no ceilings")
    parser.add_argument("--bar", type=float, default=BAR, help="the best peer's ratio under which a point is named")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sentences", action="store_true", help="print what the README says of the study instead")
    asked = parser.parse_args()
    rows = study(asked.run, asked.ceilings)
    if asked.sentences:
        print(*sentences(rows, headline(asked.run, asked.ceilings)))
    else:
        print(page(rows, asked.bar))
    if asked.json:
        plain = {"points": [row.to_json() for row in rows], "totals": [total.to_json() for total in totals(rows)]}
        asked.json.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def page(rows: Sequence[Row], bar: float = BAR) -> str:
    """The points, the totals and what falls short, as Markdown."""
    no_floor = [] if all(row.ceilings for row in rows) else ["- No floor: there are no ceilings of this card."]
    lines = "\n".join((*no_floor, *(f"- {line}" for line in problems(rows, bar))))
    return "\n\n".join(part for part in (points_table(rows), totals_table(rows, bar), lines) if part)


def headline(path: Path, ceilings_path: Path | None = None) -> str:
    """The finding in the title of the report's figure."""
    (view, *_) = make_views(load_measured([path] if ceilings_path is None else [ceilings_path, path]))
    return kernels.draw(view.frame, view.context).get_suptitle().partition("\n")[0]


def sentences(rows: Sequence[Row], finding: str) -> Iterator[str]:
    """What the README says of a study over the points of `results/studies/mla-decode/study.toml`."""
    *parts, every = [total for total in totals(rows) if total.peer == BEST]
    means = ", ".join(
        f"{geometric_mean(part.ratios.values()):.2f}x at {_heads(part.attention or '')}" for part in parts
    )
    yield (
        f"{finding} ({means}), from {every.ratios[every.least_at]:.2f}x ({_heads(every.least_at)}) "
        f"to {every.ratios[every.greatest_at]:.2f}x ({_heads(every.greatest_at)})."
    )
    few, some, many = ({row.place[1:]: row for row in rows}[heads, 128, 8192] for heads in (16, 64, 128))
    rates = [format_bandwidth(row.rate(row.case.bytes_moved)) for row in (few, some)]
    yield (
        f"At batch 128 and 8k it moves {rates[0]} with 16 heads and {rates[1]} with 64, and does "
        f"{format_flop_rate(many.rate(many.case.flops))} with 128: {_over_floor(few)}, {_over_floor(some)} and "
        f"{_over_floor(many)} times the floor."
    )
    short = min(rows, key=lambda row: row.place)
    empty = format_latency(short.overhead_us)
    yield (
        f"Where there is little to read no ceiling binds: one request of 1k with 16 heads takes "
        f"{format_latency(short.ours_us)}, {_over_floor(short)} times the floor, of which an empty call is {empty}."
    )
    yield (
        "All took turns on the same inputs, in bursts, each output checked before and after; the clocks were held down "
        f"at {sum(row.is_throttled for row in rows)} of {len(rows)} points."
    )


def points_table(rows: Sequence[Row]) -> str:
    """The points as Markdown, times in microseconds."""
    peers = peers_of(rows)
    headings = ("attention", "batch", "kv_len", "kernel", "ours", *peers, "best / ours", "floor", "ours / floor")
    return table(
        (*headings, "bandwidth", "FLOP rate", "what binds"),
        [
            (
                row.attention,
                str(row.case.batch),
                format_tokens(row.case.kv_len),
                row.ours,
                _number(row.ours_us),
                *(
                    _number(row.ours_us * ratio.value if ratio and row.ours_us else None)
                    for ratio in map(row.ratio_to, peers)
                ),
                _interval(row.ratio_to(BEST)),
                _number(row.floor_us),
                _over_floor(row),
                format_bandwidth(row.rate(row.case.bytes_moved)),
                format_flop_rate(row.rate(row.case.flops)),
                row.binds or NOT_MEASURED,
            )
            for row in rows
        ],
    )


def totals_table(rows: Sequence[Row], bar: float = BAR) -> str:
    """The totals as Markdown."""
    lines = []
    for total in totals(rows):
        plain = total.to_json()
        numbers = [f"{plain[name]:.3f}" for name in ("geometric_mean", "least", "greatest")]
        points = f"{plain['points']} of {total.asked}"
        attention = total.attention or "all"
        lines.append((total.peer, attention, points, *numbers, total.least_at, str(len(total.under(bar)))))
    columns = ("attention", "points", "geometric mean", "least", "greatest", "least at", f"under {bar:g}")
    return table(("peer / ours", *columns), lines)


def problems(rows: Sequence[Row], bar: float = BAR) -> Iterator[str]:
    """A line for each point under the bar, and for each side without a time."""
    for row in rows:
        ratio = row.ratio_to(BEST)
        if ratio and ratio.value < bar:
            yield f"under {bar:g}: {row.label}: {row.best} takes {_interval(ratio)} of our time"
        yield from (f"without a time: {row.label}: {line}" for line in row.why)


def _heads(label: str) -> str:
    """A label of points that differ in heads alone, by these: `64 heads, batch 8, 8k`."""
    return re.sub(r"^.*\((\d+ heads)\)", r"\1", label)


def _over_floor(row: Row) -> str:
    return _number(row.ours_us / row.floor_us if row.ours_us and row.floor_us else None)


def _number(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")


def _interval(ratio: Ratio | None) -> str:
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else NOT_MEASURED


if __name__ == "__main__":
    main()
