"""The runs under a folder as lines of a list: read from manifests, without their records."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlabench.errors import UsageError
from mlabench.records.manifest import Manifest
from mlabench.records.pairs import PAIRS_NAME
from mlabench.records.store import RECORDS_NAME, find_runs, read_manifest


@dataclass(frozen=True, slots=True)
class Listed:
    """A run directory. `points` are its stored lines, of a sweep or of a comparison in turns (`is_ab`)."""

    path: Path
    manifest: Manifest
    points: int
    is_ab: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        manifest = self.manifest
        return {
            "path": self.path.as_posix(),
            "created_at": manifest.created_at,
            "made_by": "ab" if self.is_ab else "sweep",
            "device": manifest.fingerprint.device,
            "device_name": manifest.fingerprint.device_name,
            "method": manifest.config.get("method"),
            "cache": manifest.config.get("cache"),
            "points": self.points,
            **_code(manifest.provenance),
        }


def list_runs(folder: Path) -> tuple[tuple[Listed, ...], tuple[str, ...]]:
    """The runs in the folder and below, the newest first, and a line for each that cannot be read.

    Raises `UsageError` for what is no folder.
    """
    runs, complaints = [], []
    for path in find_runs(folder):
        try:
            runs.append(_listed(path))
        except (UsageError, OSError) as error:
            complaints.append(str(error))
    return tuple(sorted(runs, key=lambda run: began_at(run.manifest), reverse=True)), tuple(complaints)


def began_at(manifest: Manifest) -> datetime:
    """When the run was begun; long ago where its manifest does not say so in a way that can be read."""
    try:
        at = datetime.fromisoformat(manifest.created_at)
    except (TypeError, ValueError):
        return datetime.min.replace(tzinfo=UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _listed(path: Path) -> Listed:
    manifest = read_manifest(path)
    is_ab = "interleaved" in manifest.config
    return Listed(path, manifest, sum(1 for _ in _lines(path / (PAIRS_NAME if is_ab else RECORDS_NAME))), is_ab)


def _lines(path: Path) -> Iterator[bytes]:
    """The complete lines of a file; none where there is no file."""
    if path.is_file():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))


def _code(provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {name: provenance.get(name) for name in ("version", "commit", "dirty")}
