"""The ledger: every claim with its words, where they stand, how it is tested, and what that is expected to show."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

Kind = Literal["analytic", "measured", "untestable"]
Verdict = Literal["holds", "holds with a qualifier", "wrong", "not testable here", "not checked without a run"]

HOLDS: Verdict = "holds"
QUALIFIED: Verdict = "holds with a qualifier"
WRONG: Verdict = "wrong"
UNTESTABLE: Verdict = "not testable here"
UNCHECKED: Verdict = "not checked without a run"

RELATIONS = ("about", "at_least", "at_most", "above", "below", "between")
"""What a claim can say of a value; a reading has one of them, or none and only gives the value."""

DEFAULT_TOLERANCE = 0.01
"""Relative difference up to which a value is about the claimed one, unless a reading gives its own `tolerance`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a claim: a check with its parameters, and the relation to the claimed value.

    Without a relation the value is only told.
    """

    name: str
    check: str
    parameters: Mapping[str, Any]
    relation: str | None = None
    claimed: Any = None
    tolerance: float = DEFAULT_TOLERANCE


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim; `finding` is what is right, with a reading's value in each pair of braces.

    `takes` says which runs a measured claim is judged by. Each sentence of `beside` is told where runs hold its values,
    whatever the claim's kind, and counts for nothing.
    """

    id: str
    quote: str
    source: str
    where: str
    kind: Kind
    expected: Verdict
    finding: str
    readings: tuple[Reading, ...]
    takes: str = ""
    beside: tuple[str, ...] = ()


@cache
def load_ledger() -> tuple[Claim, ...]:
    """Every claim, in the ledger's order. Raises `ValueError` for an entry that cannot be."""
    tables = tomllib.loads(files("mlabench.claims").joinpath("ledger.toml").read_text(encoding="utf-8"))
    sources: Mapping[str, str] = tables["sources"]
    return tuple(read_claim(entry, sources) for entry in tables["claim"])


def read_claim(entry: Mapping[str, Any], sources: Mapping[str, str]) -> Claim:
    """A claim from its table; the part of its id before the dot names its source. Raises `ValueError`."""
    readings = tuple(_reading(name, dict(table)) for name, table in entry.get("readings", {}).items())
    source = sources[entry["id"].split(".")[0]]
    if entry["kind"] not in get_args(Kind) or entry["expected"] not in get_args(Verdict):
        raise ValueError(f"claim {entry['id']}: kind {entry['kind']!r} or verdict {entry['expected']!r} is unknown")
    if entry["kind"] == "untestable" and any(reading.relation for reading in readings):
        raise ValueError(f"claim {entry['id']} is untestable and yet has a reading that tests it")
    if (entry["kind"] == "measured") != ("takes" in entry):
        raise ValueError(f"claim {entry['id']}: one that is measured, and no other, says in `takes` what it takes")
    plain = {name: entry[name] for name in ("id", "quote", "kind", "expected", "finding")}
    texts = {name: entry.get(name, "") for name in ("where", "takes")}
    return Claim(**plain, **texts, source=source, readings=readings, beside=tuple(entry.get("beside", ())))


def _reading(name: str, table: dict[str, Any]) -> Reading:
    check, tolerance = table.pop("check"), table.pop("tolerance", DEFAULT_TOLERANCE)
    relations = [relation for relation in RELATIONS if relation in table]
    if len(relations) > 1:
        raise ValueError(f"reading {name} has more than one relation: {', '.join(relations)}")
    relation = relations[0] if relations else None
    claimed = table.pop(relation) if relation else None
    return Reading(name, check, table, relation, claimed, tolerance)
