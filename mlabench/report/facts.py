"""What a report tells of its runs: what was compared, and where and how each one was measured."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlabench.records.manifest import Manifest
from mlabench.records.store import Run
from mlabench.units import NOT_MEASURED, format_bandwidth, format_bytes, format_flop_rate, format_power

if TYPE_CHECKING:
    import pandas


def card(run: Run, table: "pandas.DataFrame") -> list[tuple[str, str]]:
    """The environment of a run as names and values."""
    manifest, machine = run.manifest, run.manifest.fingerprint
    own = table[table["run"] == run.name]
    provenance = manifest.provenance
    dirty = {True: "with uncommitted changes", False: "clean", None: "git could not say"}[provenance.get("dirty")]
    facts = [
        ("machine", f"{machine.device_name}, {_processors(machine.processors)}{_memory(machine.memory_bytes)}"),
        ("power limit", format_power(machine.power_limit_w)),
        ("driver", machine.driver),
        ("CUDA", machine.cuda),
        ("PyTorch", machine.torch),
        ("Triton", machine.triton),
        ("Python", f"{machine.python} on {machine.system}"),
        ("mlabench", provenance.get("version")),
        ("commit", f"{provenance.get('commit') or 'unknown'} ({dirty})"),
        ("source digest", provenance.get("source_digest")),
        ("started", manifest.created_at),
        ("timing method", _values(own, "method")),
        ("last-level cache", _values(own, "cache")),
        *_ceilings(manifest),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "", NOT_MEASURED)]


def _ceilings(manifest: Manifest) -> list[tuple[str, str]]:
    if manifest.ceilings is None:
        return [("ceilings", "not measured")]
    ceilings = manifest.ceilings
    rates = ", ".join(
        f"{format_flop_rate(rate)} {dtype}" for dtype, rate in sorted(ceilings.matmul_flops_per_s.items())
    )
    return [
        ("measured read", format_bandwidth(ceilings.read_bytes_per_s)),
        ("measured write", format_bandwidth(ceilings.write_bytes_per_s)),
        ("measured copy", format_bandwidth(ceilings.copy_bytes_per_s)),
        ("measured matmul", rates or NOT_MEASURED),
    ]


def summary(runs: Sequence[Run], table: "pandas.DataFrame") -> list[tuple[str, str]]:
    """What was compared, on what, of which code, and how much of it was measured, as names and values."""
    ok = int((table["status"] == "ok").sum())
    variants = table[["variant", "form", "label"]].drop_duplicates().to_dict("records")
    versions = {f"{run.manifest.provenance.get('commit') or 'unknown'}"[:12] for run in runs}
    devices = {run.manifest.fingerprint.device_name for run in runs}
    return [
        ("compared", ", ".join(dict.fromkeys(map(_variant, variants))) or "nothing"),
        ("machine", ", ".join(sorted(devices))),
        ("commit", ", ".join(sorted(versions))),
        ("points", f"{ok} measured of {len(table)} records in {', '.join(run.name for run in runs)}"),
    ]


def _variant(row: Mapping[Any, Any]) -> str:
    return f"MLA {row['form']}" if row["variant"] == "mla" else str(row["label"]).partition(" (")[0]


def _values(rows: "pandas.DataFrame", column: str) -> str:
    return ", ".join(sorted(rows[column].dropna().unique()))


def _memory(memory_bytes: int | None) -> str:
    return f", {format_bytes(memory_bytes)} of memory" if memory_bytes else ""


def _processors(count: int) -> str:
    return f"{count} processor{'' if count == 1 else 's'}"
