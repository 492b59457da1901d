"""What `mlabench gate --static` can be written as."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from mlabench.errors import ExitCode
from mlabench.units import NOT_MEASURED, format_exact
from mlabench.verdict.outputs.github import MOST_A_LEVEL, annotation
from mlabench.verdict.outputs.markdown import MOST_ROWS, escaped

if TYPE_CHECKING:
    from mlabench.machine_code.compare import Difference
    from mlabench.machine_code.static_gate import StaticResult

HEADERS = ("verdict", "kernel", "configuration", "arch", "value", "baseline", "current")

TITLE = "mlabench gate --static"


def cells(difference: "Difference") -> tuple[str, ...]:
    """A difference as a row under `HEADERS`."""
    kernel, configuration, arch, function = difference.key
    values = (_text(difference.baseline), _text(difference.current))
    name = f"{kernel}: {function}" if function else kernel
    return (difference.verdict.value, name, configuration, arch, difference.name, *values)


def _render_json(result: "StaticResult") -> str:
    return json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n"


def _render_markdown(result: "StaticResult") -> str:
    """The outcome, and the first differences in a table."""
    rows = [
        HEADERS,
        (":--",) * len(HEADERS),
        *(tuple(map(escaped, cells(each))) for each in result.differences[:MOST_ROWS]),
    ]
    left = len(result.differences) - MOST_ROWS
    blocks = [
        f"### {escaped(result.summary)}",
        "\n".join(f"| {' | '.join(row)} |" for row in rows) if result.differences else "",
        f"{format_exact(left)} more." if left > 0 else "",
    ]
    return "\n\n".join(filter(None, blocks)) + "\n\n"


def _render_github(result: "StaticResult") -> str:
    """Annotations: the outcome, and of a gate that fails one for each configuration, the worst first.

    Where those are too many for GitHub, the last says how many more there are.
    """
    return "".join(f"{line}\n" for line in _annotations(result))


def _annotations(result: "StaticResult") -> Iterator[str]:
    passed = result.exit_code is ExitCode.PASS
    yield annotation("notice" if passed else "error", TITLE, result.summary)
    if passed:
        return
    groups: dict[tuple[str, ...], list[str]] = {}
    for verdict, *place, name, before, now in map(cells, result.differences):
        groups.setdefault((verdict, *place), []).append(f"{name} {before} is now {now}")
    most = MOST_A_LEVEL - 1
    shown = list(groups.items()) if len(groups) <= most else list(groups.items())[: most - 1]
    for (verdict, kernel, configuration, arch), changes in shown:
        yield annotation("error", f"{verdict}: {kernel}", f"{configuration}, {arch}: {', '.join(changes)}")
    if left := sum(map(len, list(groups.values())[len(shown) :])):
        yield annotation("error", f"{TITLE}: {left} more", "--json has them all")


def _text(value: int | float | str | None) -> str:
    if value is None:
        return NOT_MEASURED
    return format_exact(value) if isinstance(value, int) else str(value)


STATIC_FORMATS: Mapping[str, Callable[["StaticResult"], str]] = {
    "json": _render_json,
    "markdown": _render_markdown,
    "github": _render_github,
}
"""By the name of the option that asks for one."""
