"""The report as Markdown, to be pasted into a pull request or a README: sentences, tables, and links to pictures."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mlabench.report.content import Content, DrawnMove, DrawnView
from mlabench.report.facts import card, summary
from mlabench.report.findings import findings
from mlabench.report.moved import CAPTION, cells
from mlabench.report.series import View, measured
from mlabench.report.style import thinned
from mlabench.report.warnings import warnings
from mlabench.units import NOT_MEASURED, format_latency, format_tokens

if TYPE_CHECKING:
    import pandas

MOST_LENGTHS = 5
"""Of a table of latencies; `mlabench export` has them all."""

MOST_MOVED = 20
"""Points of a comparison, those that moved farthest."""

_MARKUP = re.compile(r"([\\`*|<>\[\]~&])")


def render_markdown(content: Content) -> str:
    """The whole text; GitHub shows it as it is."""
    told: list[str] = []
    blocks = [
        f"## {_text(content.title)}",
        _list(f"{name}: {value}" for name, value in summary(content.runs, content.table)),
    ]
    for one in content.moves:
        blocks += _move(one)
    for drawn in content.views:
        blocks += _view(drawn, told)
    if found := [*warnings(content.runs, content.table), *content.notes]:
        blocks += ["### Before you trust the numbers", _list(found)]
    blocks.append("### How it was measured")
    for run in content.runs:
        facts = "; ".join(f"{name} {value}" for name, value in card(run, content.table))
        blocks.append(_list([f"{run.name}: {facts}"]))
    return "\n\n".join(filter(None, blocks)) + "\n"


def latency_table(view: View) -> str:
    """Times by batch and length, a column for each variant and form; the fastest of a row is bold."""
    context, rows = view.context, measured(view.frame)
    rows = rows[(rows["num_q_heads"] == context.num_q_heads) & rows[context.panel].isin(context.panels)]
    lengths = thinned(sorted(float(value) for value in set(rows[context.x])), MOST_LENGTHS)
    names = [one.name for one in context.series if (rows["series"] == one.name).any()]
    lines = [
        [context.panel_title(panel), format_tokens(length), *_times(part, names)]
        for panel in context.panels
        for length in lengths
        if len(part := rows[(rows[context.panel] == panel) & (rows[context.x] == length)])
    ]
    return _table((context.panel, context.x, *names), lines, numeric=len(names)) if lines else ""


def _view(drawn: DrawnView, told: list[str]) -> Iterator[str]:
    """The view's sentences, but for those in `told`, its table and its pictures."""
    view = drawn.view
    yield f"### {_text(view.title)}"
    sentences = [finding.sentence for finding in findings(view) if finding.sentence not in told]
    told += sentences
    yield _list(sentences)
    if table := latency_table(view):
        yield f"{view.context.captions['latency']} of one layer with {view.context.num_q_heads} heads:"
        yield table
    for picture in drawn.pictures:
        if picture.row.name in drawn.beside:
            yield f"![{_text(picture.heading)}]({drawn.beside[picture.row.name]})"
    yield _list(picture.missing for picture in drawn.pictures if picture.missing)


def _move(drawn: DrawnMove) -> Iterator[str]:
    moved = drawn.moved
    yield f"### What moved: {_text(moved.title)}"
    yield f"{_text(moved.summary)} A change counts from {moved.least} on, whichever is larger."
    yield _list(moved.warnings)
    yield _table(("", f"{moved.base.name} (before)", f"{moved.current.name} (now)"), moved.facts)
    yield _table(("kernel", "points", "geometric mean", "verdicts"), moved.kernels)
    named = zip(moved.names, moved.points, strict=True)
    points = [(name, point.kernel, *cells(point)) for name, point in list(named)[:MOST_MOVED]]
    yield _table(("case", "kernel", "verdict", "before", "now", "ratio [90%]", "note"), points)
    if "moved" in drawn.beside:
        yield f"![What moved: {_text(moved.title)}. {_text(CAPTION)}]({drawn.beside['moved']})"
    yield _list(f"not compared: {one.points} {one.verdict}: {one.reason}" for one in moved.others)


def _times(rows: "pandas.DataFrame", names: Sequence[str]) -> list[str]:
    times = dict(zip(rows["series"], rows["latency_us"], strict=True))
    least = min(times.values())
    texts = {name: format_latency(float(us)) for name, us in times.items()}
    return [f"**{texts[name]}**" if times.get(name) == least else texts.get(name, NOT_MEASURED) for name in names]


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_text(line)}" for line in lines)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], numeric: int = 0) -> str:
    """A table whose last columns are numbers; a cell may hold markup of its own, and no bar."""
    rule = [":--"] * (len(headings) - numeric) + ["--:"] * numeric
    lines = (list(map(_cell, headings)), rule, *(list(map(_cell, row)) for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    strong = text.startswith("**") and text.endswith("**")
    return text if strong else _text(text)


def _text(text: str) -> str:
    """In one line, and meaning itself."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
