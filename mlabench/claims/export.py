"""The judged ledger as text: JSON for tools, and a page in Markdown."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from textwrap import fill

from mlabench.claims.judge import Judged

WIDTH = 120

INTRODUCTION = (
    "wrote this page. No verdict is typed in: each claim of the articles and of the papers' tables has one or more "
    "readings; a reading's value is computed from the model presets, the cases' tensors, the GPUs' data sheets and "
    "small trials in float64, and held against the claimed one; {measured}. A claim holds if all of its readings do, "
    "holds with a qualifier if some do, and is wrong if none does. Scores, prices and times that a source gives are "
    "taken from it, and only the arithmetic on them is checked. The words are shortened. Bytes are of bfloat16 and of "
    "one GPU unless a row says otherwise."
)

HEADERS = ("id", "the words", "where", "verdict", "what is right")


def to_json(judged: Sequence[Judged]) -> str:
    """A list of objects, each with the values of its checks."""
    return json.dumps([one.to_json() for one in judged], indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_markdown(judged: Sequence[Judged], runs: Sequence[Path] = ()) -> str:
    """The page: a table for each source. `runs` are what the measured claims were judged by."""
    sections = [
        f"## {source}\n\n{_table(list(claims))}" for source, claims in groupby(judged, key=lambda one: one.claim.source)
    ]
    return f"{_introduction(judged, runs)}\n\n" + "\n\n".join(sections) + "\n"


def summary(judged: Sequence[Judged]) -> str:
    """How many claims have each verdict: `68 claims: 21 wrong, ...`."""
    counts = Counter(one.verdict for one in judged)
    return f"{len(judged)} claims: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def check_option(runs: Sequence[Path]) -> str:
    """The option that names these runs, in a shell that expands braces; empty without any."""
    parents = {run.parent for run in runs}
    if len(runs) < 2 or len(parents) > 1:
        return "".join(f" --check {run.as_posix()}" for run in runs)
    return f" --check {parents.pop().as_posix()}/{{{','.join(run.name for run in runs)}}}"


def _introduction(judged: Sequence[Judged], runs: Sequence[Path]) -> str:
    option = check_option(runs)
    measured = (
        "what is measured is read from the first of the runs above that holds it"
        if runs
        else "claims on speed and energy wait for runs"
    )
    paragraphs = (INTRODUCTION.format(measured=measured), f"{summary(judged)}.")
    text = "\n\n".join(fill(paragraph, WIDTH) for paragraph in paragraphs)
    return f"# What is said of MLA, put to the test\n\n    mlabench claims{option} --format md\n\n{text}"


def _table(claims: Sequence[Judged]) -> str:
    rows = [(one.claim.id, f'"{one.claim.quote}"', one.claim.where or "", one.verdict, one.finding) for one in claims]
    lines = [HEADERS, ("---",) * len(HEADERS), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
