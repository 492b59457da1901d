"""Our times beside those of other tools, on the same launches."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.opinions import OPINIONS, OURS, Opinion
from mlabench.units import format_change, format_latency

TOLERANCE = 0.02

TOLERANCE_US = 0.5

TIMEOUT_S = 300


class NoAnswer(Exception):  # noqa: N818
    """The process of an opinion gave no times; the message says why."""


def examine_second_opinions(examination: Examination) -> list[Finding]:
    """Ask every tool that is installed, each in a process of its own. That none answers is bad."""
    if examination.device != "cuda":
        text = "nothing was checked: the tools time GPU launches alone"
        return [Finding("second opinions", "bad", text, "ask for them where there is a GPU")]
    ours = _ask(OURS)
    findings = [_opinion(opinion, ours) for opinion in OPINIONS]
    if not any(finding.data for finding in findings):
        text = "nothing was checked: no tool answered"
        findings.append(Finding("second opinions", "bad", text, "install one of those above"))
    return findings


def judge_opinion(opinion: Opinion, theirs: Mapping[str, Sequence[float]], ours: Mapping[str, Any]) -> Finding:
    """Where the medians are further apart than 2% and 0.5 us; ours are taken with the overhead only if theirs have it.

    `ours` is what `opinions.time_ours` gives.
    """
    deducted_us = 0.0 if opinion.with_overhead else ours["overhead_us"] or 0.0
    rows = []
    for label, times_us in theirs.items():
        our_us = median(ours[opinion.cache][label]) - deducted_us
        their_us = median(times_us)
        apart = abs(their_us - our_us) > max(TOLERANCE * our_us, TOLERANCE_US)
        rows.append({"launch": label, "ours_us": our_us, "theirs_us": their_us, "apart": apart, "times_us": times_us})
    data = {"includes": opinion.includes, "deducted_overhead_us": deducted_us, "launches": rows}
    apart_rows = [row for row in rows if row["apart"]]
    shown = apart_rows or [max(rows, key=lambda row: abs(row["theirs_us"] / row["ours_us"] - 1))]
    text = f"{len(rows) - len(apart_rows)} of {len(rows)} launches agree; " + "; ".join(map(_line, shown))
    text += f". It takes: {opinion.includes}"
    if not apart_rows:
        return Finding(opinion.name, "good", text, data=data)
    mend = "see whether what it includes explains the difference; else distrust both"
    return Finding(opinion.name, "warning", text, mend, data)


def _opinion(opinion: Opinion, ours: Mapping[str, Any]) -> Finding:
    if not _installed(opinion.package):
        return Finding(opinion.name, "not here", "its package is not installed", opinion.install)
    try:
        return judge_opinion(opinion, _ask(opinion.name), ours)
    except NoAnswer as error:
        return Finding(opinion.name, "warning", f"gave no times: {error}", opinion.install)


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _ask(name: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.json"
        command = [sys.executable, "-m", "mlabench.doctor.opinions", name, str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"no answer within {TIMEOUT_S} s") from None
        if done.returncode or not path.exists():
            lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines()
            raise NoAnswer(lines[-1] if lines else f"exit code {done.returncode}")
        return json.loads(path.read_text(encoding="utf-8"))


def _line(row: Mapping[str, Any]) -> str:
    change = format_change(row["theirs_us"] / row["ours_us"] - 1)
    theirs, ours = format_latency(row["theirs_us"], 4), format_latency(row["ours_us"], 4)
    return f"{row['launch']}: {theirs} against our {ours} ({change})"
