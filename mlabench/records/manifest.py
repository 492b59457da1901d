"""The manifest of a run: what was asked for, of which code, on which machine, under which ceilings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlabench.errors import UsageError
from mlabench.machine.ceilings import Ceilings
from mlabench.machine.fingerprint import Fingerprint

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """`config` is the sweep's resolved configuration, `provenance` the code's, both as plain values.

    `gpu_state` is what `machine.nvml.Nvml.state` gave before the first point; None on a CPU. `kernel_sources` says for
    each kernel that joined by an entry point its distribution, version and source digest; None where a run does not
    tell.
    """

    created_at: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    fingerprint: Fingerprint
    ceilings: Ceilings | None
    gpu_state: Mapping[str, Any] | None = None
    kernel_sources: Mapping[str, Mapping[str, str | None]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for `manifest.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "created_at": self.created_at,
            "config": dict(self.config),
            "provenance": dict(self.provenance),
            "fingerprint": self.fingerprint.to_json(),
            "ceilings": self.ceilings.to_json() if self.ceilings else None,
            "gpu_state": dict(self.gpu_state) if self.gpu_state else None,
            "kernel_sources": None if self.kernel_sources is None else dict(self.kernel_sources),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Manifest":
        """The manifest that `to_json` made these values from. Raises `UsageError` for another schema."""
        if plain.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(
                f"the run has schema version {plain.get('schema_version')}, this mlabench reads {SCHEMA_VERSION}: "
                "use the version that wrote it"
            )
        return cls(
            created_at=plain["created_at"],
            config=_table(plain["config"], "config"),
            provenance=_table(plain["provenance"], "provenance"),
            fingerprint=Fingerprint.from_json(plain["fingerprint"]),
            ceilings=Ceilings(**plain["ceilings"]) if plain["ceilings"] else None,
            gpu_state=_table(plain.get("gpu_state") or {}, "gpu_state") or None,
            kernel_sources=_sources(plain.get("kernel_sources")),
        )

    def changed_kernels(self, now: Mapping[str, Mapping[str, str | None]]) -> list[str]:
        """One clause for each kernel whose code is another now; none for what the run does not tell."""
        before = self.kernel_sources or {}
        return [
            f"{name} is of {_source(now[name])}, and was of {_source(was)}"
            for name, was in before.items()
            if name in now and dict(now[name]) != dict(was)
        ]


def _sources(value: Any) -> Mapping[str, Mapping[str, str | None]] | None:
    if value is None:
        return None
    return {name: _table(each, "kernel_sources") for name, each in _table(value, "kernel_sources").items()}


def _source(source: Mapping[str, str | None]) -> str:
    named = " ".join(filter(None, (source.get("distribution"), source.get("version")))) or "an unknown distribution"
    return f"{named} (sources {source.get('source_digest') or 'unknown'})"


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is no table")
    return value
