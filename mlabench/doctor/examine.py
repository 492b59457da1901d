"""The sections, and the diagnosis that they make together."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlabench.doctor.ceilings import examine_ceilings
from mlabench.doctor.counters import examine_counters
from mlabench.doctor.finding import Examination, Examine, Finding
from mlabench.doctor.kernels import examine_kernels
from mlabench.doctor.machine import examine_machine
from mlabench.doctor.second_opinions import examine_second_opinions
from mlabench.doctor.timer import examine_timer
from mlabench.errors import first_line
from mlabench.machine.fingerprint import DeviceKind, take_fingerprint, usable_cpus
from mlabench.machine.provenance import take_provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the examination. With an `option` it is made only where that is asked for."""

    name: str
    title: str
    examine: Examine
    option: str = ""


SECTIONS: tuple[Section, ...] = (
    Section("machine", "This machine", examine_machine),
    Section("ceilings", "Measured ceilings", examine_ceilings),
    Section("timer", "Self-test of the timer", examine_timer),
    # A kernel can spoil the process for what comes after it; the sections below run in processes of their own.
    Section("kernels", "Kernels", examine_kernels),
    Section("second_opinions", "Second opinions on the same launches", examine_second_opinions, "cross_check"),
    Section("counters", "Hardware counters", examine_counters, "counters"),
)
"""Every section, in the order in which it is made and shown."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A section with what it found and how long it took."""

    section: Section
    wall_s: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found."""

    examination: Examination
    created_at: str
    sections: tuple[Examined, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all sections."""
        return tuple(finding for examined in self.sections for finding in examined.findings)

    @property
    def exit_code(self) -> int:
        """1 where something is bad, else 0."""
        return int(any(finding.status == "bad" for finding in self.findings))

    def to_json(self) -> dict[str, Any]:
        """Everything with its raw numbers; plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "created_at": self.created_at,
            "device": self.examination.device,
            "quick": self.examination.quick,
            "method": self.examination.method,
            "fingerprint": self.examination.fingerprint.to_json(),
            "provenance": take_provenance().to_json(),
            "exit_code": self.exit_code,
            "sections": [_section_json(examined) for examined in self.sections],
        }


def choose_sections(options: Mapping[str, bool]) -> tuple[Section, ...]:
    """The sections that are always made, and those whose option is set."""
    return tuple(section for section in SECTIONS if not section.option or options.get(section.option))


def diagnose(
    device: DeviceKind,
    quick: bool,
    sections: Sequence[Section],
    on_start: Callable[[Section], None],
    on_end: Callable[[Examined], None],
    method: str = "auto",
) -> Diagnosis:
    """Make the sections one after the other; `on_start` and `on_end` hear of each. The self-test is of `method`."""
    _leave_a_core_free(device)
    examination = Examination(device, quick, take_fingerprint(device), method)
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    examined = []
    for section in sections:
        on_start(section)
        examined.append(_examine(section, examination))
        on_end(examined[-1])
    return Diagnosis(examination, created_at, tuple(examined))


def _examine(section: Section, examination: Examination) -> Examined:
    start = time.perf_counter()
    try:
        findings = tuple(section.examine(examination))
    except Exception as error:
        # Whatever breaks a section is itself a finding, and the others are still worth having.
        traceback.print_exc()
        what = f"{type(error).__name__}: {first_line(error) or 'no message'}"
        findings = (Finding(section.name, "bad", f"the examination broke off: {what}", "see the traceback above"),)
    return Examined(section, time.perf_counter() - start, findings)


def _leave_a_core_free(device: DeviceKind) -> None:
    """As sweeps do: torch's threads spin, and one that is descheduled halts all."""
    if device == "cpu":
        import torch

        torch.set_num_threads(max(1, usable_cpus() - 1))


def _section_json(examined: Examined) -> dict[str, Any]:
    return {
        "name": examined.section.name,
        "title": examined.section.title,
        "wall_s": round(examined.wall_s, 3),
        "findings": [finding.to_json() for finding in examined.findings],
    }
