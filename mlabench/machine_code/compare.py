"""What changed between two inspections: every value is exact, so that any difference is a change."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from mlabench.machine_code.rows import Key, Row


class Verdict(StrEnum):
    """What a difference means, the worst first."""

    LOST = "lost"
    """It compiled and fitted an SM, and does not any more."""
    MISSING = "missing"
    """The baseline has it, and now there is nothing of the kind."""
    WORSE = "worse"
    """It uses more of what is scarce, or fewer of the fast instructions."""
    CHANGED = "changed"
    """It is another choice, neither better nor worse by itself."""
    NEW = "new"
    """The baseline does not have it."""
    BETTER = "better"
    """The reverse of worse."""
    NOTED = "noted"
    """The number of instructions alone, which says little; it fails no gate."""


REGRESSIONS = frozenset({Verdict.LOST, Verdict.MISSING, Verdict.WORSE})

Bad = Literal["more", "fewer", "neither"]

VALUES: Mapping[str, Bad] = {
    "spill_stores": "more",
    "spill_loads": "more",
    "loop_spills": "more",
    "stack_bytes": "more",
    "registers": "more",
    "shared_bytes": "more",
    "tensor_columns": "more",
    "matrix_instructions": "fewer",
    "matrix_waits": "more",
    "matrix_loops": "neither",
    "async_copies": "fewer",
    "ctas_an_sm": "fewer",
    "warps_an_sm": "fewer",
    "num_warps": "neither",
    "config": "neither",
    "instructions": "neither",
}
"""What of a row is compared, and the direction that is bad. Of a value that has parts each part is compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value of one row that is not what it was; `None` stands for what is not there."""

    verdict: Verdict
    key: Key
    name: str
    baseline: int | float | str | None
    current: int | float | str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        kernel, configuration, arch, function = self.key
        where = {"kernel": kernel, "configuration": configuration, "arch": arch, "function": function}
        return {"verdict": self.verdict.value, **where, **{n: v for n, v in asdict(self).items() if n not in _PLACE}}


_PLACE = ("verdict", "key")


def compare_rows(baseline: Sequence[Row], current: Sequence[Row]) -> tuple[Difference, ...]:
    """Every difference, the worst verdicts first and otherwise in the rows' order."""
    before, now = _by_place(baseline), _by_place(current)
    found: list[Difference] = []
    for place in dict.fromkeys([*before, *now]):
        found += _compare_place(before.get(place, {}), now.get(place, {}))
    order = list(Verdict)
    return tuple(sorted(found, key=lambda difference: order.index(difference.verdict)))


def _by_place(rows: Sequence[Row]) -> dict[tuple[str, str, str], dict[str, Row]]:
    places: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        places.setdefault(row.key[:3], {})[row.function] = row
    return places


def _compare_place(before: Mapping[str, Row], now: Mapping[str, Row]) -> Iterator[Difference]:
    """The functions of one configuration; a row that says why a kernel ended stands for those that did not come."""
    for function in dict.fromkeys([*before, *now]):
        old, new = before.get(function, before.get("")), now.get(function, now.get(""))
        if old and new:
            yield from _compare(old, new)
        elif old and (function or not now):
            yield Difference(Verdict.MISSING, old.key, "status", old.status, None)
        elif new and (function or not before.keys() - now.keys()):
            yield Difference(Verdict.NEW, new.key, "status", None, _status(new))


def _compare(before: Row, now: Row) -> Iterator[Difference]:
    if before.status != now.status:
        verdict = Verdict.CHANGED
        if "ok" in (before.status, now.status):
            verdict = Verdict.LOST if before.status == "ok" else Verdict.BETTER
        yield Difference(verdict, max(before.key, now.key), "status", before.status, _status(now))
    if before.function != now.function:
        return
    for name, bad in VALUES.items():
        parts = [_parts(name, getattr(row, name)) for row in (before, now)]
        # A part that one side does not have is 0 there: an instruction that is not used, say.
        absent = 0 if bad == "fewer" else None
        for part in dict.fromkeys([*parts[0], *parts[1]]):
            old, new = (each.get(part, absent) for each in parts)
            if old != new:
                yield Difference(_judge(name, bad, old, new), before.key, part, old, new)


def _status(row: Row) -> str:
    return f"{row.status}: {row.reason}" if row.reason else row.status


def _parts(name: str, value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {name: value}


def _judge(name: str, bad: Bad, old: Any, new: Any) -> Verdict:
    if name == "instructions":
        return Verdict.NOTED
    if bad == "neither" or old is None or new is None:
        return Verdict.CHANGED
    return Verdict.WORSE if (new > old) == (bad == "more") else Verdict.BETTER
