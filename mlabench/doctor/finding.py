"""What the doctor finds: one line each, with the numbers behind it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mlabench.machine.fingerprint import DeviceKind, Fingerprint

Status = Literal["good", "warning", "bad", "not here"]
"""`bad`: numbers from here are not to be trusted, or a proof that was asked for could not be made.

`not here`: could not be looked at, or is not installed.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` says what is, with numbers and units; `mend` how to change it; `data` holds the raw numbers."""

    name: str
    status: Status
    found: str
    mend: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Examination:
    """What every section is given. `quick` asks for fewer samples, `method` names the one that the self-test is of."""

    device: DeviceKind
    quick: bool
    fingerprint: Fingerprint
    method: str = "auto"


Examine = Callable[[Examination], list[Finding]]
"""A section: looks, and returns what it found."""
