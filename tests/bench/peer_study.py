"""One kernel beside its peers, point by point: times, the best peer's ratio, the floor and what binds; then totals.

`python -m tests.bench.peer_study FOLDER` prints the points of a study, and with `--write` stores what is made of its
runs: a page of each run of `mlabench ab` (`points.md` of the one named `ab`) and `kernels.png`. The floor is the
roofline under the ceilings of the folder's `sweep`, on the same card. `--sentences` prints what the READMEs say of it.
"""

import argparse
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mlabench.records.pairs import PAIRS_NAME
from mlabench.report.figures import FIGURES
from mlabench.report.interleaved import load_measured
from mlabench.report.render import Picture, draw_pictures
from mlabench.report.series import make_views
from mlabench.units import (
    NOT_MEASURED,
    format_bandwidth,
    format_flop_rate,
    format_latency,
    format_ratio,
    format_tokens,
)
from tests.bench.markdown import table
from tests.bench.peer_points import BAR, BEST, Ratio, Row, Total, peers_of, study, totals

BARS = {"grouped-decode": 0.9, "prefill": 0.85}
"""By study, where it is not `BAR`."""

IN_PROJECT = "mla-decode"
"""The study that the project's README tells of."""

FIGURE_NAME = "kernels.png"


def main() -> None:
    """Store what is made of a study's runs, print the sentences, or without either the points."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peer_study")
    parser.add_argument("folder", type=Path, help="with a run `ab`, and others, and a `sweep` on the same card")
    parser.add_argument("--write", action="store_true", help="store the pages and the figure in the folder")
    parser.add_argument("--sentences", action="store_true", help="print what the READMEs say of the study")
    asked = parser.parse_args()
    if asked.write:
        print(*write(asked.folder), sep="\n")
    if asked.sentences:
        print(*sentences(asked.folder), sep="\n")
        if asked.folder.resolve().name == IN_PROJECT:
            print(*project_sentences(asked.folder), sep="\n")
    if not (asked.write or asked.sentences):
        print(pages(asked.folder)["points.md"])


def pages(folder: Path) -> dict[str, str]:
    """The page of each run of `mlabench ab`, by the name of its file."""
    runs = sorted(path.parent for path in folder.glob(f"*/{PAIRS_NAME}"))
    bar = BARS.get(folder.resolve().name, BAR)
    names = {"ab": "points"}
    return {f"{names.get(run.name, run.name)}.md": page(study(run, _sweep(folder)), bar) for run in runs}


def picture(folder: Path) -> Picture:
    """The report's figure of the run `ab`."""
    runs = [path for path in (_sweep(folder), folder / "ab") if path]
    (view, *_) = make_views(load_measured(runs))
    (found,) = draw_pictures(view, ("png",), [row for row in FIGURES if row.name == "kernels"])
    return found


def write(folder: Path) -> Iterator[Path]:
    """Store the pages, and the figure with its title as the file's; the paths written."""
    for name, text in pages(folder).items():
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
        yield folder / name
    drawn, title = picture(folder), PngInfo()
    title.add_text("Title", drawn.heading)
    Image.open(io.BytesIO(drawn.files["png"])).save(folder / FIGURE_NAME, optimize=True, pnginfo=title)
    yield folder / FIGURE_NAME


def page(rows: Sequence[Row], bar: float = BAR) -> str:
    """The points, the totals and what falls short, as Markdown."""
    no_floor = [] if all(row.ceilings for row in rows) else ["- No floor: there are no ceilings of this card."]
    lines = "\n".join((*no_floor, *(f"- {line}" for line in problems(rows, bar))))
    return "\n\n".join(part for part in (points_table(rows), totals_table(rows, bar), lines) if part)


def sentences(folder: Path) -> Iterator[str]:
    """What the study's README says of it."""
    every = _best_of_all(study(folder / "ab", _sweep(folder)))
    least, greatest = map(format_ratio, every.ends)
    yield f"{_finding(folder)}, from {least} at {every.least_at}, to {greatest} at {every.greatest_at}."
    if (folder / "paged").exists():
        paged = _best_of_all(study(folder / "paged"))
        won = len(paged.ratios) - len(paged.under(1))
        yield (
            f"In pages of 64 tokens it is faster at {won} of {len(paged.ratios)} points, and the best peer takes "
            f"{format_ratio(paged.mean)} its time in geometric mean."
        )


def project_sentences(folder: Path) -> Iterator[str]:
    """What the project's README says of a study over the points of `results/studies/mla-decode/study.toml`."""
    rows = study(folder / "ab", _sweep(folder))
    *parts, every = [total for total in totals(rows) if total.peer == BEST]
    means = ", ".join(f"{part.mean:.2f}x at {_heads(part.attention or '')}" for part in parts)
    least, greatest = every.ends
    yield (
        f"{_finding(folder)} ({means}), from {least:.2f}x ({_heads(every.least_at)}) "
        f"to {greatest:.2f}x ({_heads(every.greatest_at)})."
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
        numbers = [f"{number:.3f}" for number in (total.mean, *total.ends)]
        points = f"{len(total.ratios)} of {total.asked}"
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


def _best_of_all(rows: Sequence[Row]) -> Total:
    return next(total for total in totals(rows) if (total.peer, total.attention) == (BEST, None))


def _finding(folder: Path) -> str:
    return picture(folder).heading.partition(", ")[0]


def _sweep(folder: Path) -> Path | None:
    return folder / "sweep" if (folder / "sweep").exists() else None


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
