"""The one exception that a command turns into a line of text and an exit code."""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """Something the user gave cannot be used; the message says what is wrong and how to mend it (exit code 2)."""

    exit_code = 2


class MissingBaselineError(UsageError):
    """The baseline is not there, or is of another machine or method (exit code 4)."""

    exit_code = 4


def near_names(name: str, known: Iterable[str]) -> str:
    """A clause that suggests the known names closest to `name`, or lists them all when none is close."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
