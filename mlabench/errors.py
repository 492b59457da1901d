"""The exit codes of every command, and the exceptions that a command turns into a line of text and one of them."""

import difflib
from collections.abc import Iterable, Mapping
from enum import IntEnum


class ExitCode(IntEnum):
    """What a command says to the shell. Stable: a script may rely on each value.

    The gate gives the first that applies, in this order: 2, 4, 5, 6, 1, 3, 0. Without usable arguments (2) or a
    baseline that this machine can be held against (4) nothing is judged. An incorrect kernel (5) needs no baseline to
    be wrong, and must not hide behind a run without any time (6), which in turn would make every point look lost (1). A
    regression stands whatever else remains unclear (3). What is left has compared at least one point, and every one of
    them is fine. A sweep gives 0, 2, 5, 6 or 130, as does `ab`; a comparison, a report, an export or an
    inspection 0, 2 or 6. The doctor gives 0, 2, or 1: something is bad.
    """

    PASS = 0
    REGRESSION = 1
    USAGE = 2
    INCONCLUSIVE = 3
    NO_BASELINE = 4
    INCORRECT = 5
    NOTHING_MEASURED = 6
    INTERRUPTED = 130


class UsageError(Exception):
    """Something the user gave cannot be used; the message says what is wrong and how to mend it."""

    exit_code = ExitCode.USAGE


class MissingBaselineError(UsageError):
    """The baseline is not there, or is of another machine or method."""

    exit_code = ExitCode.NO_BASELINE


class NothingMeasuredError(UsageError):
    """What was given holds nothing to show."""

    exit_code = ExitCode.NOTHING_MEASURED


SHORT_NAMES: Mapping[str, str] = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
    "half": "float16",
    "fp32": "float32",
    "f32": "float32",
    "float": "float32",
    "fp8": "float8",
    "f8": "float8",
    "int8": "float8",
    "e4m3": "float8",
    "float8_e4m3fn": "float8",
    "fp4": "mxfp4",
    "float4": "mxfp4",
}
"""What dtypes and formats are often called, by the name that options know or that comes nearest to it."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; empty where it has none."""
    return next(iter(str(error).strip().splitlines()), "")


def near_names(name: str, known: Iterable[str]) -> str:
    """A clause that suggests the known names closest to `name`, or lists them all when none is close."""
    names = sorted(known)
    several = [part.strip() for part in name.split(",")]
    if len(several) > 1 and set(several) <= set(names):
        return f"did you mean {' and '.join(several)}, each named by itself?"
    if (meant := SHORT_NAMES.get(name.lower())) in names:
        return f"did you mean {meant}?"
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
