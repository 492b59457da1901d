"""Which code a run came from: version, commit, and a digest of the sources themselves."""

import hashlib
import os
import subprocess
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlabench import __version__

COMMIT_VARIABLE = "MLABENCH_COMMIT"
"""Names the commit of sources that were copied; it outweighs a git folder beside them, which may be another's."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """`dirty` is None where git cannot say. `source_digest` covers every Python source of both packages."""

    version: str
    commit: str | None
    dirty: bool | None
    source_digest: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)


def take_provenance() -> Provenance:
    """The provenance of the code that runs now."""
    root = Path(__file__).resolve().parents[2]
    if named := os.environ.get(COMMIT_VARIABLE):
        return Provenance(__version__, named, None, source_digest())
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if commit is None:
        return Provenance(__version__, None, None, source_digest())
    status = _git(root, "status", "--porcelain", "--", "mlabench", "kernels")
    return Provenance(__version__, commit, bool(status), source_digest())


def source_digest() -> str:
    """Sixteen hexadecimal digits over the names and contents of both packages' Python sources."""
    digest = hashlib.sha256()
    for package in ("mla_kernels", "mlabench"):
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(f"{package}/{path.relative_to(folder).as_posix()}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
