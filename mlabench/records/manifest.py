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

    `gpu_state` is what `machine.nvml.Nvml.state` gave before the first point; None on a CPU.
    """

    created_at: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    fingerprint: Fingerprint
    ceilings: Ceilings | None
    gpu_state: Mapping[str, Any] | None = None

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
        )


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is no table")
    return value
